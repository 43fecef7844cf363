"""From a name or a folder to a model."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from efface.core.errors import EffaceError, UnknownName

if TYPE_CHECKING:
    import torch

    from .unet import UNetModel

EMBEDDED = ("pocket", "pocket-sibling")
SIBLINGS = {"pocket-sibling": "pocket"}
"""Models with a denoiser of their own that share everything else with another."""


def kin(name: str) -> str:
    """The model whose world, presets and benchmarks a model shares: itself, but for a sibling."""
    return SIBLINGS.get(name, name)


def embedded_folder(name: str) -> Path:
    """The folder of an embedded model, in diffusers layout."""
    return Path(str(files("efface.models").joinpath("data", name)))


def locate(ref: str | Path) -> tuple[Path, str]:
    """The folder and the name of a model.

    Raises:
        UnknownName: neither an embedded model nor a folder; the message lists what exists.
        EffaceError: a folder that is no diffusers pipeline.
    """
    if str(ref) in EMBEDDED:
        return embedded_folder(kin(str(ref))), str(ref)
    folder = Path(ref)
    if not folder.is_dir():
        raise UnknownName("model", str(ref), (*EMBEDDED, "any folder in diffusers layout"))
    if not (folder / "model_index.json").is_file():
        raise EffaceError(f"{folder} is no diffusers pipeline: it has no model_index.json (save one with pipe.save_pretrained)")
    return folder, folder.name


def load_model(ref: str | Path = "pocket", *, device: torch.device | str | None = None) -> UNetModel:
    """Load a model.

    Args:
        ref: ``"pocket"``, ``"pocket-sibling"``, or a folder in diffusers layout.
        device: where to compute; the fastest at hand if not given.
    """
    folder, name = locate(ref)
    from .unet import UNetModel  # after the checks: a wrong name must not cost an import of torch

    own = embedded_folder(name) / "unet" if name in SIBLINGS else None
    return UNetModel.load(folder, name, device, unet=own)
