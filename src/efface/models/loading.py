"""The verb ``load_model``: checks a reference, then builds the model; torch is imported only for a valid reference."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from efface.core.errors import EffaceError

from .model_ref import ModelRef, ModelSource, locate_model, model_name, source_kind

_KINDS = {"causal_lm": "language", "janus": "janus", "image_classifier": "classifier"}
"""Kind by the family of a loaded model; every other family generates images by denoising."""

if TYPE_CHECKING:
    import torch

    from .editable import EditableModel


def load_model(
    ref: Any = "pocket",
    *,
    device: torch.device | str | None = None,
    dtype: torch.dtype | str | None = None,
    revision: str | None = None,
    config: str | Path | None = None,
    offload: bool = False,
    default: str | Path = "pocket",
) -> EditableModel:
    """Loads a text-to-image model, a language model or an image classifier, in evaluation mode.

    Args:
        ref: ``"pocket"``, ``"pocket-sibling"``, ``"pocket-flow"``, ``"pocket-janus"``, a folder in diffusers layout, a
            hub id such as ``"org/name"``, a ``.safetensors`` checkpoint in the original layout, a diffusers pipeline, a
            `ModelRef`, or a loaded model, which is returned unchanged. Of language models: ``"pocket-lm"``, a folder in
            transformers' layout, a hub id, a text-generation pipeline, or a pair of a model and its tokenizer. Of
            Janus-type models and classifiers alike, or any module as ``(module, preprocess, classes)``.
        device: device to compute on; the fastest if None; ``"auto"`` spreads a language model over all devices.
        dtype: precision to compute in. If None: float32 on the CPU, on MPS and for bundled models; bfloat16 on CUDA,
            where float16 gradients can underflow; float16 on CUDA without bfloat16. A pipeline in memory keeps its
            device and precision.
        revision: branch, tag or commit of a hub id.
        config: folder in diffusers layout, or one of ``sd1``, ``sd2``, ``sd2-base``, ``sdxl``, that describes a
            checkpoint; needed only where the shipped configurations do not fit it, and for SD3 and FLUX, whose other
            components it holds, too.
        offload: keep text encoders, denoiser and autoencoder on the CPU, and move each to the device while it is
            needed. A pipeline with ``enable_model_cpu_offload()`` is offloaded in this way without it.
        default: the model that a `ModelRef` with ``ref=None`` selects.

    Raises:
        EffaceError: the model does not exist or cannot be offloaded, the hub cannot be reached, a part is missing, or
            memory does not suffice.
    """
    if isinstance(ref, ModelRef):
        full = ref if ref.ref is not None else replace(ref, ref=default)
        return _load(full.ref, full)
    return _load(ref, ModelRef(None, device, dtype, revision, config, offload))


def _load(ref: Any, options: ModelRef) -> EditableModel:
    """Checks a reference and builds its model; see `load_model`."""
    source = locate_model(ref) if isinstance(ref, str | Path) else None
    if source is not None:
        _check_options(source, options)
    elif hasattr(ref, "fingerprint"):
        return ref  # type: ignore[no-any-return]
    return _build(source, ref, options)


def _build(source: ModelSource | None, ref: Any, options: ModelRef) -> EditableModel:
    """Builds the adapter; imports torch here, after the checks, so that a wrong name does not cost the import."""
    kind = source_kind(source, options.revision) if source else _kind_in_memory(ref)
    if options.offload and kind != "image":
        raise EffaceError(
            f"{model_name(ref)} is no diffusers pipeline, whose components could be offloaded: omit --offload "
            "(offload=True)"
        )
    if kind == "janus":
        from .janus_loading import load_janus, wrap_janus

        return load_janus(source, options) if source else wrap_janus(ref, options)  # type: ignore[return-value]
    if kind == "language":
        from .language_loading import load_language_model, wrap_language_model

        return load_language_model(source, options) if source else wrap_language_model(ref, options)  # type: ignore[return-value]
    if kind == "classifier":
        from .classifier_loading import load_classifier, wrap_classifier

        return load_classifier(source, options) if source else wrap_classifier(ref, options)  # type: ignore[return-value]
    from .builder import build_model

    return build_model(source, ref, options)


def kind_of_model(ref: Any) -> str:
    """Returns the kind of what `load_model` accepts, without building it: image, janus, language or classifier.

    Raises:
        EffaceError: the model does not exist, or the hub cannot be reached.
    """
    options = ref if isinstance(ref, ModelRef) else ModelRef(ref)
    ref = "pocket" if options.ref is None else options.ref
    if isinstance(ref, str | Path):
        return source_kind(locate_model(ref), options.revision)
    family = getattr(ref, "family", None)
    return _KINDS.get(family, "image") if family is not None else _kind_in_memory(ref)


def _kind_in_memory(ref: Any) -> str:
    """Returns the kind of a model in memory; a diffusers pipeline is told apart before transformers is read."""
    if hasattr(ref, "components"):
        return "image"
    from .classifier_loading import is_classifier_in_memory
    from .janus_loading import is_janus_in_memory
    from .language_loading import is_language_model_in_memory

    checks = {
        "janus": is_janus_in_memory, "language": is_language_model_in_memory, "classifier": is_classifier_in_memory,
    }  # fmt: skip
    return next((kind for kind, check in checks.items() if check(ref)), "image")


def _check_options(source: ModelSource, options: ModelRef) -> None:
    """Checks that revision and config fit the kind of the source.

    Raises:
        EffaceError: they do not.
    """
    if options.revision is not None and source.kind != "hub":
        raise EffaceError(f"a revision belongs to a hub id such as org/name; {source.name} is a {source.kind}")
    if options.config is not None and source.kind != "file":
        raise EffaceError(f"a config belongs to a .safetensors checkpoint; {source.name} is not one")
