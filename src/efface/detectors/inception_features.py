"""Features for FID and KID by the Inception network that both were published with, from the user's weights in safetensors.

Images are resized to 299 x 299 with an antialiased bicubic filter (Parmar et al. 2022, arXiv 2104.11222) and scaled as TensorFlow's graph
does, ``(255 x - 128) / 128``; the filter is part of the name, for values under other filters do not compare. efface ships no weights.
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
from efface.models.diffusers_folder import FID_CURE

from .inception import Inception

SIDE, WIDTH, BATCH = 299, 2048, 32


class InceptionFeatures(nn.Module):
    """Features for FID and KID; also a ``feature`` of torchmetrics' metrics.

    Args:
        path: the weights in safetensors, with the names of ``pt_inception-2015-12-05``.
        device: where to compute.

    Raises:
        EffaceError: a pickle, or a file that does not hold these weights.
    """

    num_features = WIDTH

    def __init__(self, path: str | Path, device: torch.device | str = "cpu") -> None:
        super().__init__()
        self.net = weighted(Path(path)).eval().requires_grad_(False).to(device)
        self.detector = DetectorId("inception-v3-fid", f"bicubic+{sha256_file(path)[:12]}")

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """Features ``(N, 2048)`` of images ``(N, 3, H, W)`` in [0, 1]."""
        device = self.net.Conv2d_1a_3x3.conv.weight.device
        parts = [
            interpolate(part.to(device), (SIDE, SIDE), mode="bicubic", antialias=True).clamp(0, 1)
            for part in images.split(BATCH)
        ]
        return (
            torch.cat([self.net((255 * part - 128) / 128).cpu() for part in parts]) if parts else torch.zeros(0, WIDTH)
        )


def weighted(path: Path) -> Inception:
    """The network with a file's weights; raises `EffaceError` where they are not its own."""
    if path.suffix != ".safetensors":
        raise EffaceError(
            f"{path} is read as safetensors only, for a pickle can run code: convert it once with {FID_CURE.format(name=path.name)}"
        )
    try:
        given = load_file(path)
    except (OSError, SafetensorError) as error:
        raise EffaceError(
            f"{path} cannot be read as safetensors ({str(error).splitlines()[0]}): convert it again, or give its path"
        ) from error
    with torch.device("meta"):
        net = Inception()
    wanted = {name: tensor for name, tensor in net.state_dict().items() if not name.endswith("num_batches_tracked")}
    unlike = [name for name, tensor in wanted.items() if name not in given or given[name].shape != tensor.shape]
    fc = given.get("fc.weight")
    if fc is not None and len(fc) != 1008:
        raise EffaceError(
            f"{path} has {len(fc)} classes: these are other weights than FID's, which have 1008 (pt_inception-2015-12-05)"
        )
    if unlike:
        raise EffaceError(
            f"{path} is no Inception of FID: {len(unlike)} tensors are missing or of another shape, such as {unlike[0]}"
        )
    net.to_empty(device="cpu").load_state_dict({name: given[name].float() for name in wanted}, strict=False)
    return net
