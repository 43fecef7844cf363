"""Loads causal language models: bundled ones, folders, hub ids, and models in memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from efface.core.errors import EffaceError

from .builder import CURE, default_dtype, resolve_device, resolve_dtype
from .causal_lm import CausalLM
from .hub import download_language_model
from .language_folder import LANGUAGE_BUNDLED, check_language_folder
from .memory import oom_as_user_error
from .model_ref import ModelRef, ModelSource
from .pipeline import default_device, silence_libraries


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
    targets = [target for target in (resolve_device(options), resolve_dtype(options)) if target is not None]
    name = Path(str(getattr(model, "name_or_path", "") or "")).name or "language-model"
    return CausalLM(model.to(*targets) if targets else model, tokenizer, name)


def load_language_model(source: ModelSource, options: ModelRef) -> CausalLM:
    """Loads the language model of a folder or hub id, from safetensors alone and without code of the repository.

    Raises:
        EffaceError: the model does not load, or memory does not suffice.
    """
    device = resolve_device(options) or default_device()
    dtype = resolve_dtype(options) or (torch.float32 if source.name in LANGUAGE_BUNDLED else default_dtype(device))
    folder = Path(str(source.path)) if source.path else download_language_model(source.name, options.revision)
    check_language_folder(folder)
    with oom_as_user_error(f"the model does not fit: {CURE}"), silence_libraries():
        try:
            module = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, use_safetensors=True)
            tokenizer = AutoTokenizer.from_pretrained(folder)
        except (OSError, ValueError, KeyError, ImportError) as error:
            raise EffaceError(f"{source.name} does not load: {str(error).strip().splitlines()[0]}") from error
        return CausalLM(module.to(device), tokenizer, source.name)
