"""Checks before any heavy import that a model's folder is a complete, supported pipeline without pickles."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path

from efface.core.errors import EffaceError
from efface.core.io import read_json

from .component_weights import check_weights, find_weights
from .model_kinds import LATENT_CHANNELS, check_unet_config

_SINGLE_ENCODER = ("text_encoder", "tokenizer", "unet", "vae", "scheduler")
_TRANSFORMER = ("text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2", "transformer", "vae", "scheduler")
REQUIRED_COMPONENTS = {
    "StableDiffusionPipeline": _SINGLE_ENCODER,
    "StableDiffusionXLPipeline": (*_SINGLE_ENCODER, "text_encoder_2", "tokenizer_2"),
    "StableDiffusion3Pipeline": _TRANSFORMER,
    "FluxPipeline": _TRANSFORMER,
    "SanaPipeline": ("text_encoder", "tokenizer", "transformer", "vae", "scheduler"),
}
"""Supported pipeline classes and the components that each must have; SD3 has T5 or not (``text_encoder_3``)."""
SUPPORTED_PIPELINES = (
    "StableDiffusionPipeline (1.x, 2.x), StableDiffusionXLPipeline, StableDiffusion3Pipeline, FluxPipeline and "
    "SanaPipeline"
)
PICKLE_SUFFIXES = frozenset({".ckpt", ".bin", ".pt", ".pth", ".pkl", ".pickle"})


def refuse_pickles(path: Path) -> None:
    """Refuses a file that would have to be unpickled.

    Raises:
        EffaceError: the suffix is in `PICKLE_SUFFIXES`; the message gives the command that converts the file to
            safetensors.
    """
    if path.suffix.lower() in PICKLE_SUFFIXES:
        cure = f"StableDiffusionPipeline.from_single_file({path.name!r}).save_pretrained('folder')"
        raise EffaceError(
            f"{path} is a pickle, which can run code when it is read: convert it in a sandbox with diffusers' {cure}"
        )


def check_folder(folder: Path) -> None:
    """Checks that a folder is a supported pipeline with every component, with weights in safetensors.

    Raises:
        EffaceError: it is not.
    """
    if not (folder / "model_index.json").is_file():
        raise EffaceError(
            f"{folder} is no diffusers pipeline: it has no model_index.json (save one with pipe.save_pretrained)"
        )
    index = read_json(folder / "model_index.json")
    class_name = index.get("_class_name") if isinstance(index, dict) else None
    if not isinstance(class_name, str) or not isinstance(index, dict):
        raise EffaceError(f"{folder} does not load: its model_index.json names no pipeline (_class_name)")
    check_pipeline_class(class_name, str(folder))
    listed = [name for name, entry in index.items() if isinstance(entry, list) and entry and entry[0] is not None]
    check_components((name for name in listed if (folder / name).is_dir()), class_name, str(folder))
    optional = [name for name in ("text_encoder_3",) if name in listed and (folder / name).is_dir()]
    for name in (*REQUIRED_COMPONENTS[class_name], *optional):
        if not name.startswith(("tokenizer", "scheduler")):
            check_component(folder, name)
    _check_unet(folder)


def check_folder_of_configs(folder: Path, shipped: Collection[str]) -> None:
    """Checks that a folder holds the configurations of a supported pipeline's components; weights are not needed.

    Args:
        folder: the user's folder.
        shipped: names of the shipped configurations, for the message.

    Raises:
        EffaceError: it does not.
    """
    if not (folder / "model_index.json").is_file():
        others = f", and none of {', '.join(shipped)}" if shipped else ""
        raise EffaceError(f"the config {folder} is no folder in diffusers layout{others}")
    index = read_json(folder / "model_index.json")
    class_name = str(index.get("_class_name") if isinstance(index, dict) else None)
    check_pipeline_class(class_name, f"the config {folder}")
    present = {path.name for path in folder.iterdir() if path.is_dir()}
    optional = {name for name in REQUIRED_COMPONENTS[class_name] if name.startswith("tokenizer")}
    check_components(present | optional, class_name, f"the config {folder}")


def check_pipeline_class(class_name: str, where: str) -> None:
    """Checks that a pipeline class is supported.

    Args:
        class_name: such as ``StableDiffusionPipeline``.
        where: the folder or repository, for the message.

    Raises:
        EffaceError: it is not supported.
    """
    if class_name not in REQUIRED_COMPONENTS:
        raise EffaceError(f"{where} is a {class_name}, which is not supported: there are {SUPPORTED_PIPELINES}")


def check_components(present: Iterable[str], class_name: str, where: str) -> None:
    """Checks that a pipeline has every component that its class requires.

    Args:
        present: names of the components that the pipeline has.
        class_name: a key of `REQUIRED_COMPONENTS`.
        where: the folder or repository, for the message.

    Raises:
        EffaceError: a component is missing; the message names each.
    """
    present = set(present)
    if missing := [name for name in REQUIRED_COMPONENTS[class_name] if name not in present]:
        raise EffaceError(f"{where} has no {', no '.join(missing)}: save the whole pipeline with pipe.save_pretrained")


def _check_unet(folder: Path) -> None:
    """Checks that the denoiser reads latents of the autoencoder, timesteps and text, and nothing else.

    Raises:
        EffaceError: it reads something else.
    """
    unet, vae = folder / "unet" / "config.json", folder / "vae" / "config.json"
    if not unet.is_file():
        return
    vae_config = read_json(vae) if vae.is_file() else None
    latents = vae_config.get("latent_channels") if isinstance(vae_config, dict) else None
    check_unet_config(read_json(unet), str(folder), int(latents) if isinstance(latents, int) else LATENT_CHANNELS)


def check_component(folder: Path, name: str) -> None:
    """Checks that a component's folder holds complete, plain weights in safetensors.

    Raises:
        EffaceError: it holds pickles, no weights, or weights that are damaged, quantized or have adapter layers.
    """
    if weights := find_weights(folder / name):
        check_weights(weights, folder / name)
        return
    if {path.suffix for path in (folder / name).iterdir()} & PICKLE_SUFFIXES:
        cure = f"StableDiffusionPipeline.from_pretrained({folder.name!r}, use_safetensors=False).save_pretrained('new')"
        raise EffaceError(
            f"{folder / name} holds pickles, which can run code when they are read: "
            f"convert in a sandbox with diffusers' {cure}"
        )
    raise EffaceError(
        f"{folder / name} holds no weights in safetensors: save the whole pipeline with pipe.save_pretrained"
    )
