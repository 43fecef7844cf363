"""Loads causal language models: bundled ones, folders, hub ids, and models in memory."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from transformers import AutoModelForCausalLM

from efface.core.errors import EffaceError

from .builder import CURE
from .causal_lm import CausalLM
from .hub import download_language_model
from .language_folder import LANGUAGE_BUNDLED, check_language_folder
from .memory import oom_as_user_error
from .model_ref import ModelRef, ModelSource
from .pipeline import silence_libraries
from .transformers_loading import load_target, load_with_tokenizer, moved, name_of

SPREAD = "auto"
"""The device that stands for all devices together."""


def is_language_model_in_memory(ref: Any) -> bool:
    """Returns whether an object is a text-generation pipeline, or a pair of a language model and its tokenizer."""
    model, tokenizer = _parts(ref)
    return hasattr(model, "get_output_embeddings") and hasattr(tokenizer, "decode")


def _parts(ref: Any) -> tuple[Any, Any]:
    if isinstance(ref, tuple) and len(ref) == 2:
        return ref
    return getattr(ref, "model", None), getattr(ref, "tokenizer", None)


def wrap_language_model(ref: Any, options: ModelRef) -> CausalLM:
    """Returns the adapter of a model in memory, which stays on its device unless one is named."""
    model, tokenizer = _parts(ref)
    return CausalLM(moved(model, options), tokenizer, name_of(model, "language-model"))


def load_language_model(source: ModelSource, options: ModelRef) -> CausalLM:
    """Loads the language model of a folder or hub id, from safetensors alone and without code of the repository.

    The device ``auto`` spreads the layers over all devices (accelerate's ``device_map="auto"``).

    Raises:
        EffaceError: the model does not load, or memory does not suffice.
    """
    is_spread = options.device == SPREAD
    device, dtype = load_target(source.name, replace(options, device=None) if is_spread else options, LANGUAGE_BUNDLED)
    folder = Path(str(source.path)) if source.path else download_language_model(source.name, options.revision)
    check_language_folder(folder)
    with oom_as_user_error(f"the model does not fit: {CURE}"), silence_libraries():
        module, tokenizer = load_with_tokenizer(
            AutoModelForCausalLM, folder, dtype, source.name, device_map=SPREAD if is_spread else None
        )
        if offloaded := [name for name, parameter in module.named_parameters() if parameter.is_meta]:
            raise EffaceError(
                f"{source.name} does not fit on the devices, {offloaded[0]} is off them: give --dtype bfloat16 or more "
                "devices"
            )
        return CausalLM(module if is_spread else module.to(device), tokenizer, source.name)
