"""Checks before any heavy import that a folder or repository holds a Janus-type model in transformers' layout."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from efface.core.errors import EffaceError
from efface.core.io import read_json

ARCHITECTURE = "JanusForConditionalGeneration"
_OWN_LAYOUT = "MultiModalityCausalLM"


def is_janus_config(config: Any) -> bool:
    """Returns whether a configuration is that of a Janus-type model, in transformers' or in DeepSeek's own layout."""
    architectures = (config.get("architectures") or [""]) if isinstance(config, dict) else [""]
    return str(architectures[0]) in (ARCHITECTURE, _OWN_LAYOUT)


def is_janus_folder(folder: Path) -> bool:
    """Returns whether a folder holds a Janus-type model."""
    path = folder / "config.json"
    return path.is_file() and not (folder / "model_index.json").is_file() and is_janus_config(read_json(path))


def check_janus_config(config: Any, where: str) -> None:
    """Checks that a configuration is in transformers' layout.

    Raises:
        EffaceError: it is in DeepSeek's own.
    """
    if _OWN_LAYOUT in config.get("architectures", ()):
        raise EffaceError(
            f"{where} holds Janus in DeepSeek's own layout: give its version for transformers, "
            "such as deepseek-community/Janus-Pro-1B"
        )


def check_janus_folder(folder: Path) -> None:
    """Checks that a folder holds weights in safetensors and a tokenizer in transformers' layout.

    Raises:
        EffaceError: it does not.
    """
    check_janus_config(read_json(folder / "config.json"), str(folder))
    if not list(folder.glob("*.safetensors")):
        raise EffaceError(f"{folder} holds no weights in safetensors: save it with model.save_pretrained")
    if not (folder / "tokenizer.json").is_file():
        raise EffaceError(f"{folder} has no tokenizer: save it beside the model with processor.save_pretrained")
