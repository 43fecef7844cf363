"""Check a file with the weights of FID's Inception before torch is imported."""

from __future__ import annotations

from pathlib import Path

from efface.core.errors import EffaceError
from efface.models.diffusers_folder import PICKLE_SUFFIXES

FID_CONVERSION_COMMAND = (
    'python -c "import torch, safetensors.torch as s; '
    "s.save_file(torch.load('{name}', map_location='cpu', weights_only=True), 'inception.safetensors')\""
)
"""Converts the file ``name`` to ``inception.safetensors``, without running code from the pickle."""


def check_safetensors(path: Path) -> None:
    """Check by its suffix that a weights file is in safetensors.

    Raises:
        EffaceError: it is a pickle, with the command that converts it, or another kind of file.
    """
    suffix = path.suffix.lower()
    if suffix in PICKLE_SUFFIXES:
        raise EffaceError(
            f"{path} is a pickle, which can run code when it is read: convert it once with "
            f"{FID_CONVERSION_COMMAND.format(name=path)}"
        )
    if suffix != ".safetensors":
        raise EffaceError(f"'{path}' has no features: name a .safetensors file (FID's Inception) or a .onnx file")
