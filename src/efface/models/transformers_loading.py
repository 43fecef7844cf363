"""What loading language models, Janus-type models and classifiers has in common."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import AutoTokenizer

from efface.core.errors import EffaceError

from .builder import default_dtype, resolve_device, resolve_dtype
from .model_ref import ModelRef
from .pipeline import default_device


def moved(module: Any, options: ModelRef) -> Any:
    """Returns a module in memory, which stays on its device and in its precision unless others are named."""
    targets = [target for target in (resolve_device(options), resolve_dtype(options)) if target is not None]
    return module.to(*targets) if targets else module


def name_of(module: Any, default: str) -> str:
    """Returns the last part of the path or hub id that a module was loaded from, or the default."""
    return Path(str(getattr(module, "name_or_path", "") or "")).name or default


def load_target(name: str, options: ModelRef, bundled: Collection[str]) -> tuple[torch.device, torch.dtype]:
    """Returns the device and the precision to load a model in; bundled models load in float32 unless told otherwise."""
    device = resolve_device(options) or default_device()
    return device, resolve_dtype(options) or (torch.float32 if name in bundled else default_dtype(device))


def load_with_tokenizer(
    model_class: Any, folder: Path, dtype: torch.dtype, name: str, device_map: str | None = None
) -> tuple[Any, Any]:
    """Loads a model and its tokenizer, from safetensors alone and without code of the repository.

    Args:
        model_class: the class of transformers that loads the model.
        folder: its folder.
        dtype: precision of its weights.
        name: its name, for errors.
        device_map: accelerate's way to spread the layers over devices; None loads all of them to the CPU.

    Raises:
        EffaceError: the model does not load.
    """
    try:
        module = model_class.from_pretrained(folder, dtype=dtype, use_safetensors=True, device_map=device_map)
        return module, AutoTokenizer.from_pretrained(folder)
    except (OSError, ValueError, KeyError, ImportError, SafetensorError) as error:
        raise EffaceError(f"{name} does not load: {str(error).strip().splitlines()[0]}") from error
