"""Features for FID and KID from the Inception network that both were published with; the user gives the weights.

Images are resized to 299 x 299 with an antialiased bicubic filter (Parmar et al. 2022, arXiv 2104.11222) and scaled
as in TensorFlow's graph, ``(255 x - 128) / 128``. Scores under other filters are not comparable, so the filter is
part of the version.
"""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.functional import interpolate

from efface.core.errors import EffaceError
from efface.core.io import sha256_file
from efface.core.score import DetectorId
from efface.models.image_checks import check_finite

from .fid_weights import check_safetensors
from .inception import Inception

IMAGE_SIZE = 299
WIDTH = 2048
BATCH_SIZE = 32


class InceptionFeatures(nn.Module):
    """Features for FID and KID; torchmetrics' metrics accept it as their ``feature``.

    Args:
        path: the weights in safetensors, with the names of ``pt_inception-2015-12-05``.
        device: device to compute on.

    Attributes:
        num_features: number of features, 2048.
        detector: name and version, with the hash of the weights.

    Raises:
        EffaceError: the file is a pickle or does not hold these weights.
    """

    num_features = WIDTH

    def __init__(self, path: str | Path, device: torch.device | str = "cpu") -> None:
        super().__init__()
        self.net = load_inception(Path(path)).eval().requires_grad_(False).to(device)
        self.detector = DetectorId("inception-v3-fid", f"bicubic+{sha256_file(path)[:12]}")

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """Maps images ``(N, 3, H, W)`` in [0, 1] to features ``(N, 2048)`` on the CPU."""
        if not len(images):
            return torch.zeros(0, WIDTH)
        return torch.cat([self._batch_features(batch) for batch in check_finite(images).split(BATCH_SIZE)])

    def _batch_features(self, images: Tensor) -> Tensor:
        device = self.net.Conv2d_1a_3x3.conv.weight.device
        size = (IMAGE_SIZE, IMAGE_SIZE)
        resized = interpolate(images.to(device), size, mode="bicubic", antialias=True).clamp(0, 1)
        return self.net((255 * resized - 128) / 128).cpu()


def load_inception(path: Path) -> Inception:
    """Loads the network with the weights of a file.

    Raises:
        EffaceError: the file is a pickle, cannot be read or does not hold the weights of FID's Inception.
    """
    check_safetensors(path)
    try:
        state = load_file(path)
    except (OSError, SafetensorError) as error:
        raise EffaceError(
            f"{path} cannot be read as safetensors ({str(error).splitlines()[0]}): convert it again, or give its path"
        ) from error
    with torch.device("meta"):
        net = Inception()
    shapes = {
        name: tensor.shape for name, tensor in net.state_dict().items() if not name.endswith("num_batches_tracked")
    }
    wrong = [name for name, shape in shapes.items() if name not in state or state[name].shape != shape]
    fc = state.get("fc.weight")
    if fc is not None and len(fc) != 1008:
        raise EffaceError(
            f"{path} has {len(fc)} classes: these are other weights than FID's, which have 1008 "
            "(pt_inception-2015-12-05)"
        )
    if wrong:
        raise EffaceError(
            f"{path} is not FID's Inception: {len(wrong)} tensors are missing or of another shape, such as {wrong[0]}"
        )
    net.to_empty(device="cpu").load_state_dict({name: state[name].float() for name in shapes}, strict=False)
    return net
