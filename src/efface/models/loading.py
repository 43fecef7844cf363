"""From a name, a folder, a checkpoint or a hub id to a model."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from efface.core.errors import EffaceError, UnknownNameError

from .diffusers_folder import check_folder, refuse_pickles

if TYPE_CHECKING:
    import torch

    from .editable import EditableModel
    from .stable_diffusion import StableDiffusionModel

ModelLike: TypeAlias = "str | Path | ModelRef | EditableModel"
"""What verbs take for a model; a diffusers pipeline, too."""
BUNDLED = ("pocket", "pocket-sibling")
SHARED_ENCODER = {"pocket-sibling": "pocket"}
"""Models with a denoiser of their own that share everything else with another."""
ACCEPTED = (*BUNDLED, "any folder in diffusers layout", "a .safetensors checkpoint", "a hub id such as org/name")
DTYPES = {
    "float32": "float32", "fp32": "float32", "float16": "float16", "fp16": "float16", "bfloat16": "bfloat16", "bf16": "bfloat16",
}  # fmt: skip


@dataclass(frozen=True)
class ModelRef:
    """Which model, and how to load it: what the command line's options say, and what every verb takes for ``model``.

    Attributes:
        ref: see `load_model`; None is whatever the verb takes by default, such as the erasure's own.
        device: such as ``cuda``; the fastest at hand if not given.
        dtype: one of `DTYPES`; by the device if not given.
        revision: of a hub id: branch, tag or commit.
        config: of a checkpoint: a folder in diffusers layout that describes it.
    """

    ref: str | Path | None
    device: torch.device | str | None = None
    dtype: torch.dtype | str | None = None
    revision: str | None = None
    config: str | Path | None = None

    def __post_init__(self) -> None:
        if isinstance(self.dtype, str) and self.dtype not in DTYPES:
            raise UnknownNameError("dtype", self.dtype, DTYPES)

    def __str__(self) -> str:
        return str(self.ref)


@dataclass(frozen=True)
class Source:
    """Where a model lies: ``kind`` is folder, file or hub; ``path`` what to open (None on the hub); ``name`` what results call it."""

    kind: str
    path: Path | None
    name: str


def base_bundled_model(name: str) -> str:
    """The model whose world, presets and benchmarks a model shares: itself, but for a sibling."""
    return SHARED_ENCODER.get(name, name)


def bundled_folder(name: str) -> Path:
    """The folder of an embedded model, in diffusers layout."""
    return Path(str(files("efface.models").joinpath("data", name)))


def locate(ref: str | Path) -> Source:
    """Where a model lies, without loading it or asking the network.

    Raises:
        UnknownName: nothing that a model can be; the message lists what can.
        EffaceError: a folder that is no pipeline or lacks a part, or a file that is no safetensors.
    """
    if str(ref) in BUNDLED:
        return Source("folder", bundled_folder(base_bundled_model(str(ref))), str(ref))
    path = Path(ref)
    if path.is_dir():
        check_folder(path)
        return Source("folder", path, path.resolve().name if path.name in ("", "..") else path.name)
    refuse_pickles(path)
    if path.suffix.lower() == ".safetensors":
        if not path.is_file():
            raise EffaceError(f"there is no checkpoint {path}")
        return Source("file", path, path.stem)
    if is_hub_id(str(ref)):
        return Source("hub", None, str(ref))
    raise UnknownNameError("model", str(ref), ACCEPTED)


def is_hub_id(ref: str) -> bool:
    """Whether a reference has the form of a hub id, ``org/name``, and is nothing on the disk."""
    return re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", ref) is not None and not Path(ref).exists()


def validate_ref(ref: str) -> None:
    """Raises `UnknownName` for what is no folder of a classifier or CLIP model, and no hub id."""
    if not Path(ref).is_dir() and not is_hub_id(ref):
        raise UnknownNameError("model", ref, ("a folder in transformers' layout", "a hub id such as org/name"))


def name_of(model: Any, default: str | Path = "pocket") -> str:
    """What results call a model, whatever it is given as; ``default`` stands for a `ModelRef` without one."""
    if isinstance(model, ModelRef):
        model = default if model.ref is None else model.ref
    if isinstance(model, str | Path):
        return locate(model).name
    return (
        str(model.name) if hasattr(model, "name") else str(Path(getattr(model, "name_or_path", "") or "pipeline").name)
    )


def load_model(
    ref: Any = "pocket", *, device: torch.device | str | None = None, dtype: torch.dtype | str | None = None,
    revision: str | None = None, config: str | Path | None = None, default: str | Path = "pocket",
) -> StableDiffusionModel:  # fmt: skip
    """Load a model: Stable Diffusion 1.x, 2.x or XL.

    Args:
        ref: ``"pocket"``, ``"pocket-sibling"``, a folder in diffusers layout, a hub id such as ``"org/name"``, a ``.safetensors``
            checkpoint in the original layout, a diffusers pipeline, a `ModelRef`, or a model, which is returned as it is.
        device: where to compute; CUDA, else MPS, else the CPU if not given. A pipeline in memory stays where it is.
        dtype: to compute in. If not given: float32 on the CPU and MPS and for the embedded models everywhere, bfloat16 on CUDA (its
            gradients do not underflow as float16's do), float16 where CUDA has no bfloat16. A pipeline in memory keeps its own.
        revision: of a hub id.
        config: of a checkpoint that the shipped configurations do not describe: a folder in diffusers layout that does, or one of
            ``sd1``, ``sd2``, ``sd2-base``, ``sdxl``.
        default: what a `ModelRef` without a model stands for.

    Raises:
        EffaceError: what is wrong, in one line: no such model, a hub that cannot be reached, a missing part, too little memory.
    """
    if isinstance(ref, ModelRef):
        whole = ref if ref.ref is not None else replace(ref, ref=default)
        return load_model(
            whole.ref, device=whole.device, dtype=whole.dtype, revision=whole.revision, config=whole.config
        )
    asked = ModelRef(None, device, dtype, revision, config)  # refuses an unknown dtype
    source = locate(ref) if isinstance(ref, str | Path) else None
    if source is not None and revision is not None and source.kind != "hub":
        raise EffaceError(f"a revision belongs to a hub id such as org/name; {ref} is a {source.kind}")
    if source is not None and config is not None and source.kind != "file":
        raise EffaceError(f"a config belongs to a .safetensors checkpoint; {ref} is none")
    if source is None and hasattr(ref, "predict"):
        return ref  # type: ignore[no-any-return]
    from .builder import build_model  # after the checks: a wrong name must not cost an import of torch

    return build_model(source, ref, asked)
