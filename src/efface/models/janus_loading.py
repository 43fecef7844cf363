"""Loads Janus-type models: bundled ones, folders, hub ids, and models in memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import JanusForConditionalGeneration

from .builder import CURE
from .hub import download_language_model
from .janus import JanusModel
from .janus_folder import ARCHITECTURE, check_janus_folder
from .memory import oom_as_user_error
from .model_ref import BUNDLED, ModelRef, ModelSource
from .patch_image_tokenizer import FOLDER, PatchImageTokenizer
from .pipeline import silence_libraries
from .transformers_loading import load_target, load_with_tokenizer, moved, name_of


def is_janus_in_memory(ref: Any) -> bool:
    """Returns whether an object is a pair of a Janus-type model and its processor or tokenizer."""
    return isinstance(ref, tuple) and len(ref) == 2 and type(ref[0]).__name__ == ARCHITECTURE


def wrap_janus(ref: Any, options: ModelRef) -> JanusModel:
    """Returns the adapter of a model in memory, which stays on its device unless one is named."""
    module, tokenizer = ref
    return JanusModel(moved(module, options), tokenizer, name_of(module, "janus"))


def load_janus(source: ModelSource, options: ModelRef) -> JanusModel:
    """Loads the model of a folder or hub id, from safetensors alone and without code of the repository.

    Raises:
        EffaceError: the model does not load, or memory does not suffice.
    """
    device, dtype = load_target(source.name, options, BUNDLED)
    folder = Path(str(source.path)) if source.path else download_language_model(source.name, options.revision)
    check_janus_folder(folder)
    with oom_as_user_error(f"the model does not fit: {CURE}"), silence_libraries():
        module, tokenizer = load_with_tokenizer(JanusForConditionalGeneration, folder, dtype, source.name)
        if (folder / FOLDER).is_dir():
            side = module.config.vq_config.num_patches
            module.model.vqmodel = PatchImageTokenizer.load(folder / FOLDER, side).to(dtype)
        return JanusModel(module.to(device), tokenizer, source.name)
