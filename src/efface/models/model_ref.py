"""References to models: what a user may name, checked without importing torch and without the network."""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from efface.core.errors import EffaceError, UnknownNameError

from .classifier_folder import CLASSIFIER_BUNDLED, check_classifier_folder, is_classifier_folder
from .diffusers_folder import check_folder, refuse_pickles
from .janus_folder import check_janus_folder, is_janus_folder
from .language_folder import LANGUAGE_BUNDLED, check_language_folder, is_language_folder
from .offload_device import check_offload_device

if TYPE_CHECKING:
    import torch

    from .editable import EditableModel

ModelLike: TypeAlias = "str | Path | ModelRef | EditableModel"
"""Every form in which the verbs accept a model; they accept a diffusers pipeline, too."""
BUNDLED = ("pocket", "pocket-sibling", "pocket-flow", "pocket-janus")
"""Names of the text-to-image models that ship with efface."""
ALL_BUNDLED = (*BUNDLED, *LANGUAGE_BUNDLED, *CLASSIFIER_BUNDLED)
"""Names of all models that ship with efface, of every kind."""
SHARED_ENCODER = {"pocket-sibling": "pocket"}
"""Bundled models that share every component but the denoiser with another bundled model."""
ACCEPTED = (
    *BUNDLED,
    *LANGUAGE_BUNDLED,
    *CLASSIFIER_BUNDLED,
    "any folder in diffusers layout",
    "a folder of a causal language model, of a Janus-type model or of an image classifier",
    "a .safetensors checkpoint",
    "a hub id such as org/name",
)
"""Every form of a model reference, for error messages."""
DTYPES = {
    "float32": "float32",
    "fp32": "float32",
    "float16": "float16",
    "fp16": "float16",
    "bfloat16": "bfloat16",
    "bf16": "bfloat16",
}
"""From the name that a user types to the name of the torch dtype."""


@dataclass(frozen=True)
class ModelRef:
    """A model and how to load it, as the command line's options state it; every verb accepts one for ``model``.

    Attributes:
        ref: name, folder, checkpoint or hub id (see `load_model`); None selects the verb's default, such as the
            erasure's base model.
        device: such as ``cuda``; the fastest available device if None.
        dtype: a key of `DTYPES` or a torch dtype; chosen by the device if None.
        revision: branch, tag or commit of a hub id.
        config: folder in diffusers layout, or shipped configuration, that describes a checkpoint.
        offload: keep the components of an image model on the CPU while they are not needed (`efface.models.placement`).

    Raises:
        UnknownNameError: ``dtype`` is not in `DTYPES`.
        EffaceError: components are to be offloaded from the CPU.
    """

    ref: str | Path | None
    device: torch.device | str | None = None
    dtype: torch.dtype | str | None = None
    revision: str | None = None
    config: str | Path | None = None
    offload: bool = False

    def __post_init__(self) -> None:
        if isinstance(self.dtype, str) and self.dtype not in DTYPES:
            raise UnknownNameError("dtype", self.dtype, DTYPES)
        if self.offload and self.device is not None:
            check_offload_device(str(self.device).partition(":")[0])

    def __str__(self) -> str:
        return str(self.ref)


@dataclass(frozen=True)
class ModelSource:
    """The place that a model is loaded from.

    Attributes:
        kind: ``folder``, ``file`` or ``hub``.
        path: the folder or file; None for a hub id.
        name: the model's name in results.
    """

    kind: str
    path: Path | None
    name: str


def base_bundled_model(name: str) -> str:
    """Returns the model whose presets a model uses: ``pocket`` for its sibling, else itself."""
    return SHARED_ENCODER.get(name, name)


def image_world(name: str) -> str:
    """Returns the model whose benchmarks and detectors fit a model's images: ``pocket`` for every bundled model."""
    return "pocket" if name in BUNDLED else name


def bundled_folder(name: str) -> Path:
    """Returns the folder of a bundled model, in diffusers layout."""
    return Path(str(files("efface.models").joinpath("data", name)))


def locate_model(ref: str | Path) -> ModelSource:
    """Finds the place of a model without loading it and without the network.

    Raises:
        UnknownNameError: the reference has none of the forms in `ACCEPTED`; the message lists them.
        EffaceError: the folder is not a complete pipeline, the file does not exist or is a pickle.
    """
    if str(ref) in ALL_BUNDLED:
        return ModelSource("folder", bundled_folder(base_bundled_model(str(ref))), str(ref))
    path = Path(ref)
    if path.is_dir():
        _CHECKS[folder_kind(path)](path)
        return ModelSource("folder", path, path.resolve().name if path.name in ("", "..") else path.name)
    refuse_pickles(path)
    if path.suffix.lower() == ".gguf":
        raise EffaceError(f"{path} holds quantized weights (GGUF), which are not supported: give a .safetensors file")
    if path.suffix.lower() == ".safetensors":
        if not path.is_file():
            raise EffaceError(f"there is no checkpoint {path}")
        return ModelSource("file", path, path.stem)
    if is_hub_id(str(ref)):
        return ModelSource("hub", None, str(ref))
    raise UnknownNameError("model", str(ref), ACCEPTED)


def source_kind(source: ModelSource, revision: str | None = None) -> str:
    """Returns a source's kind of model (see `folder_kind`); a hub id is looked up on the hub."""
    if source.kind == "hub":
        from .hub import repository_kind

        return repository_kind(source.name, revision)
    return folder_kind(source.path) if source.path is not None and source.kind == "folder" else "image"


def folder_kind(folder: Path) -> str:
    """Returns the kind of model that a folder holds: ``image``, ``janus``, ``language`` or ``classifier``."""
    if is_janus_folder(folder):
        return "janus"
    if is_classifier_folder(folder):
        return "classifier"
    return "language" if is_language_folder(folder) else "image"


_CHECKS = {
    "image": check_folder,
    "janus": check_janus_folder,
    "language": check_language_folder,
    "classifier": check_classifier_folder,
}


def is_hub_id(ref: str) -> bool:
    """Returns whether a reference has the form ``org/name`` of a hub id and is not a path on disk."""
    return re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", ref) is not None and not Path(ref).exists()


def validate_pretrained_ref(ref: str) -> None:
    """Checks that a classifier or CLIP model is a folder or a hub id.

    Raises:
        UnknownNameError: it is neither.
    """
    if not Path(ref).is_dir() and not is_hub_id(ref):
        raise UnknownNameError("model", ref, ("a folder in transformers' layout", "a hub id such as org/name"))


def model_name(model: Any, default: str | Path = "pocket") -> str:
    """Returns the name of a model in results, in whichever form of `ModelLike` it is given.

    Args:
        model: a reference, a loaded model or a diffusers pipeline.
        default: the model that a `ModelRef` with ``ref=None`` selects.
    """
    if isinstance(model, ModelRef):
        model = default if model.ref is None else model.ref
    if isinstance(model, str | Path):
        return locate_model(model).name
    if isinstance(model, tuple):  # a model with its tokenizer or preprocessing
        model = model[0]
    if hasattr(model, "name"):
        return str(model.name)
    return Path(getattr(model, "name_or_path", "") or "pipeline").name
