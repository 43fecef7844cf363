"""Loads Janus-type models: bundled ones, folders, hub ids, and models in memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import AutoTokenizer, JanusForConditionalGeneration

from efface.core.errors import EffaceError

from .builder import CURE, default_dtype, resolve_device, resolve_dtype
from .hub import download_language_model
from .janus import JanusModel
from .janus_folder import ARCHITECTURE, check_janus_folder
from .memory import oom_as_user_error
from .model_ref import BUNDLED, ModelRef, ModelSource
from .patch_image_tokenizer import FOLDER, PatchImageTokenizer
from .pipeline import default_device, silence_libraries


def is_janus_in_memory(ref: Any) -> bool:
    """Returns whether an object is a pair of a Janus-type model and its processor or tokenizer."""
    return isinstance(ref, tuple) and len(ref) == 2 and type(ref[0]).__name__ == ARCHITECTURE


def wrap_janus(ref: Any, options: ModelRef) -> JanusModel:
    """Returns the adapter of a model in memory, which stays on its device unless one is named."""
    module, tokenizer = ref
    targets = [target for target in (resolve_device(options), resolve_dtype(options)) if target is not None]
    name = Path(str(getattr(module, "name_or_path", "") or "")).name or "janus"
    return JanusModel(module.to(*targets) if targets else module, tokenizer, name)


def load_janus(source: ModelSource, options: ModelRef) -> JanusModel:
    """Loads the model of a folder or hub id, from safetensors alone and without code of the repository.

    Raises:
        EffaceError: the model does not load, or memory does not suffice.
    """
    device = resolve_device(options) or default_device()
    dtype = resolve_dtype(options) or (torch.float32 if source.name in BUNDLED else default_dtype(device))
    folder = Path(str(source.path)) if source.path else download_language_model(source.name, options.revision)
    check_janus_folder(folder)
    with oom_as_user_error(f"the model does not fit: {CURE}"), silence_libraries():
        try:
            module: Any = JanusForConditionalGeneration.from_pretrained(folder, dtype=dtype, use_safetensors=True)
            tokenizer = AutoTokenizer.from_pretrained(folder)
        except (OSError, ValueError, KeyError, ImportError, SafetensorError) as error:
            raise EffaceError(f"{source.name} does not load: {str(error).strip().splitlines()[0]}") from error
        if (folder / FOLDER).is_dir():
            side = module.config.vq_config.num_patches
            module.model.vqmodel = PatchImageTokenizer.load(folder / FOLDER, side).to(dtype)
        return JanusModel(module.to(device), tokenizer, source.name)
