"""Loads a complete model in transformers' layout; the library itself would draw a missing tensor at random."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor

from efface.core.errors import EffaceError

from .memory import is_memory_error
from .pipeline import silence_libraries

_LIBRARY_ERRORS = (
    OSError,
    ValueError,
    KeyError,
    TypeError,
    AttributeError,
    RuntimeError,
    ImportError,
    SafetensorError,
)


def load_complete(model_class: Any, folder: Path, description: str) -> Any:
    """Loads a model in float32 from safetensors, without running code of the folder.

    Args:
        model_class: a class of transformers, such as ``CLIPModel``.
        folder: of ``save_pretrained``.
        description: the kind of model, for messages, such as ``a CLIP model``.

    Returns:
        The model in evaluation mode, without gradients on its parameters.

    Raises:
        EffaceError: a file is missing, the model does not load, or a tensor is missing or has another shape.
    """
    if missing := [name for name in ("config.json", "model.safetensors") if not (folder / name).is_file()]:
        raise EffaceError(
            f"{folder} is not {description}: it has no {missing[0]} (save one with save_pretrained, in safetensors)"
        )
    options = {"dtype": torch.float32, "use_safetensors": True, "local_files_only": True, "trust_remote_code": False}
    try:
        with silence_libraries():
            model, info = model_class.from_pretrained(folder, output_loading_info=True, **options)
    except _LIBRARY_ERRORS as error:
        line = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise EffaceError(f"{folder} does not load as {description}: {line}") from error
    if lost := sorted([*info["missing_keys"], *(key[0] for key in info["mismatched_keys"])]):
        raise EffaceError(f"{folder} is not {description}: it lacks {len(lost)} of its tensors, such as {lost[0]}")
    return model.eval().requires_grad_(False)


def check_input_size(run: Callable[[Tensor], object], side: int, folder: Path) -> None:
    """Checks with a black image that a network accepts the size that its image processor makes.

    Args:
        run: the preprocessing and the network.
        side: height and width in pixels that the image processor makes.
        folder: of the network, for the message.

    Raises:
        EffaceError: it does not.
    """
    try:
        run(torch.zeros(1, 3, side, side))
    except (RuntimeError, ValueError, IndexError) as error:
        if is_memory_error(error):
            raise
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise EffaceError(
            f"{folder} does not accept the images of {side} x {side} pixels that its preprocessor_config.json makes: "
            f"{reason}; save the model's own image processor in it"
        ) from error
