"""A model in transformers' layout from a folder, whole: where a tensor is missing, the library draws one at random and goes on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from efface.core.errors import EffaceError
from efface.models.pipeline import silence_libraries


def load_complete(kind: Any, folder: Path, what: str) -> Any:
    """The model of a class such as ``CLIPModel``, in float32; only safetensors are read, and no code of the folder is run.

    Args:
        kind: the class.
        folder: of ``save_pretrained``.
        what: what errors call it, such as ``a CLIP model``.

    Raises:
        EffaceError: files are missing, it does not load, or a tensor is missing or of another shape.
    """
    if missing := [name for name in ("config.json", "model.safetensors") if not (folder / name).is_file()]:
        raise EffaceError(
            f"{folder} is not {what}: it has no {missing[0]} (save one with save_pretrained, in safetensors)"
        )
    how = {"dtype": torch.float32, "use_safetensors": True, "local_files_only": True, "trust_remote_code": False}
    try:
        with silence_libraries():
            model, said = kind.from_pretrained(folder, output_loading_info=True, **how)
    except (
        OSError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        RuntimeError,
        ImportError,
        SafetensorError,
    ) as error:
        line = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise EffaceError(f"{folder} does not load as {what}: {line}") from error
    if lost := sorted([*said["missing_keys"], *(key[0] for key in said["mismatched_keys"])]):
        raise EffaceError(f"{folder} is not {what}: it lacks {len(lost)} of its tensors, such as {lost[0]}")
    return model.eval().requires_grad_(False)
