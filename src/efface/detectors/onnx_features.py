"""Features of images for FID and KID, from a network that the user brings as an ONNX file.

A file such as Inception-v3 up to its last pooling, exported once from weights that one trusts; ONNX holds no code, unlike a pickled
checkpoint or TorchScript. Values of different files do not compare, so that the file's name and hash stand in the score.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from efface.core.errors import EffaceError
from efface.core.io import sha256_file
from efface.core.score import DetectorId


class OnnxFeatures:
    """The first output of an ONNX file, flattened, for images resized to its input.

    Args:
        path: the file; its only input takes ``(N, 3, H, W)``, as uint8 in [0, 255] or as floats in [-1, 1].
        side: H and W where the file leaves them open.

    Raises:
        EffaceError: onnxruntime is not installed, or a file that it cannot read or that takes something else.
    """

    def __init__(self, path: str | Path, side: int = 299) -> None:
        try:
            import onnxruntime
        except ImportError as error:
            raise EffaceError("features from an ONNX file need onnxruntime: pip install onnxruntime") from error
        path = Path(path)
        self.detector = DetectorId(path.stem, sha256_file(path)[:12])
        try:
            self._session = onnxruntime.InferenceSession(str(path), providers=onnxruntime.get_available_providers())
        except Exception as error:  # onnxruntime's errors have no common type
            raise EffaceError(f"{path} is no ONNX file that onnxruntime reads: {str(error).splitlines()[0]}") from error
        entry = self._session.get_inputs()[0]
        if len(entry.shape) != 4 or entry.shape[1] != 3:
            raise EffaceError(f"{path} takes {entry.shape}: give a network of images (N, 3, H, W)")
        self._name, self._bytes = entry.name, entry.type == "tensor(uint8)"
        self._side = entry.shape[2] if isinstance(entry.shape[2], int) else side
        self._one = entry.shape[0] == 1

    def __call__(self, images: Tensor) -> Tensor:
        """Features ``(N, d)`` of images ``(N, 3, H, W)`` in [0, 1]."""
        resized = interpolate(
            images, (self._side, self._side), mode="bicubic", antialias=True, align_corners=False
        ).clamp(0, 1)
        ready = (resized * 255).round().to(torch.uint8) if self._bytes else resized * 2 - 1
        parts = ready.split(1) if self._one else (ready,)
        rows = [self._session.run(None, {self._name: part.cpu().numpy()})[0] for part in parts]
        return torch.from_numpy(np.concatenate(rows)).float().flatten(1)
