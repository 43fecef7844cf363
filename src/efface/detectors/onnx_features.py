"""Features of images for FID and KID, from a network that the user gives as an ONNX file.

Such a file is, for example, Inception-v3 up to its last pooling, exported once from trusted weights. ONNX holds no
code, unlike a pickled checkpoint or TorchScript. Scores of different files are not comparable, so every score records
the file's name and hash.
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
from efface.models.image_checks import check_finite


class OnnxFeatures:
    """The first output of an ONNX file, flattened, for images resized to its input.

    Args:
        path: the file; its only input takes ``(N, 3, H, W)``, as uint8 in [0, 255] or as floats in [-1, 1].
        image_size: height and width of the input where the file leaves them open.

    Attributes:
        detector: the file's name and hash.

    Raises:
        EffaceError: onnxruntime is not installed, cannot read the file, or the file takes another input.
    """

    def __init__(self, path: str | Path, image_size: int = 299) -> None:
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
        height, width = entry.shape[2:]
        if height != width and isinstance(height, int) and isinstance(width, int):
            raise EffaceError(f"{path} takes images of {height} x {width} pixels: give a network of square images")
        self._input_name = entry.name
        self._takes_uint8 = entry.type == "tensor(uint8)"
        self._image_size = entry.shape[2] if isinstance(entry.shape[2], int) else image_size
        self._single_image = entry.shape[0] == 1
        try:
            self(torch.zeros(1, 3, self._image_size, self._image_size))
        except Exception as error:
            reason = str(error).splitlines()[0]
            raise EffaceError(f"{path} gives no features of an image: {reason}; give another network") from error

    def __call__(self, images: Tensor) -> Tensor:
        """Maps images ``(N, 3, H, W)`` in [0, 1] to features ``(N, d)``."""
        size = (self._image_size, self._image_size)
        check_finite(images)
        resized = interpolate(images, size, mode="bicubic", antialias=True, align_corners=False).clamp(0, 1)
        inputs = (resized * 255).round().to(torch.uint8) if self._takes_uint8 else resized * 2 - 1
        batches = inputs.split(1) if self._single_image else (inputs,)
        outputs = [self._session.run(None, {self._input_name: batch.cpu().numpy()})[0] for batch in batches]
        return torch.from_numpy(np.concatenate(outputs)).float().flatten(1)
