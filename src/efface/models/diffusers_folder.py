"""What can be said of a model's folder or file before anything heavy is imported: is it a pipeline, whole, and safe to read."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from efface.core.errors import EffaceError
from efface.core.io import read_json

_ONE = ("text_encoder", "tokenizer", "unet", "vae", "scheduler")
NEEDED = {
    "StableDiffusionPipeline": _ONE,
    "StableDiffusionXLPipeline": (*_ONE, "text_encoder_2", "tokenizer_2"),
}
"""The pipelines that are supported, with the components that each must have."""
SUPPORTED = "StableDiffusionPipeline (1.x, 2.x) and StableDiffusionXLPipeline"
FID_CURE = (
    "python -c \"import torch, safetensors.torch as s; s.save_file(torch.load('{name}', map_location='cpu', weights_only=True), "
    "'inception.safetensors')\""
)
"""What makes safetensors of the weights of FID's Inception."""
PICKLED = frozenset({".ckpt", ".bin", ".pt", ".pth", ".pkl", ".pickle"})


def refuse_pickles(path: Path) -> None:
    """Raises `EffaceError` for a file that would have to be unpickled, and says what makes it safetensors."""
    if path.suffix.lower() in PICKLED:
        cure = f"StableDiffusionPipeline.from_single_file({path.name!r}).save_pretrained('folder')"
        raise EffaceError(
            f"{path} is a pickle, which can run code when it is read: convert it in a sandbox with diffusers' {cure}"
        )


def check_folder(folder: Path) -> None:
    """Raises `EffaceError` unless the folder is a supported pipeline with every component and its weights in safetensors."""
    if not (folder / "model_index.json").is_file():
        raise EffaceError(
            f"{folder} is no diffusers pipeline: it has no model_index.json (save one with pipe.save_pretrained)"
        )
    index = read_json(folder / "model_index.json")
    kind = index.get("_class_name") if isinstance(index, dict) else None
    if not isinstance(kind, str) or not isinstance(index, dict):
        raise EffaceError(f"{folder} does not load: its model_index.json names no pipeline (_class_name)")
    check_kind(kind, str(folder))
    given = {name: entry for name, entry in index.items() if isinstance(entry, list) and entry and entry[0] is not None}
    check_parts((name for name in given if (folder / name).is_dir()), kind, str(folder))
    for name in NEEDED[kind]:
        if not name.startswith(("tokenizer", "scheduler")):
            _check_weights(folder, name)


def check_folder_of_configs(folder: Path, shipped: Iterable[str]) -> None:
    """Raises `EffaceError` unless the folder says how the components of a supported pipeline are built; it needs no weights."""
    if not (folder / "model_index.json").is_file():
        raise EffaceError(f"the config {folder} is no folder in diffusers layout, and none of {', '.join(shipped)}")
    index = read_json(folder / "model_index.json")
    kind = str(index.get("_class_name") if isinstance(index, dict) else None)
    check_kind(kind, f"the config {folder}")
    there = {path.name for path in folder.iterdir() if path.is_dir()}
    check_parts(there | {name for name in NEEDED[kind] if name.startswith("tokenizer")}, kind, f"the config {folder}")


def check_kind(kind: str, where: str) -> None:
    """Raises `EffaceError` for a pipeline class that is not supported."""
    if kind not in NEEDED:
        raise EffaceError(f"{where} is a {kind}, which is not supported: there are {SUPPORTED}")


def check_parts(there: Iterable[str], kind: str, where: str) -> None:
    """Raises `EffaceError` that names the components which a pipeline should have and has not."""
    has = set(there)
    if missing := [name for name in NEEDED[kind] if name not in has]:
        raise EffaceError(f"{where} has no {', no '.join(missing)}: save the whole pipeline with pipe.save_pretrained")


def _check_weights(folder: Path, name: str) -> None:
    suffixes = {path.suffix for path in (folder / name).iterdir()}
    if ".safetensors" in suffixes:
        return
    if suffixes & PICKLED:
        cure = f"StableDiffusionPipeline.from_pretrained({folder.name!r}, use_safetensors=False).save_pretrained('new')"
        raise EffaceError(
            f"{folder / name} holds pickles, which can run code when they are read: convert in a sandbox with diffusers' {cure}"
        )
    raise EffaceError(
        f"{folder / name} holds no weights in safetensors: save the whole pipeline with pipe.save_pretrained"
    )
