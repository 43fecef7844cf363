"""Checks before any heavy import that a folder holds a causal language model in transformers' layout."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from efface.core.errors import EffaceError
from efface.core.io import read_json

LANGUAGE_BUNDLED = ("pocket-lm",)
"""Names of the language models that ship with efface."""
_TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json")
_PICKLES = (".bin", ".pt", ".pth", ".ckpt")


def is_language_folder(folder: Path) -> bool:
    """Returns whether a folder is in transformers' layout and not in diffusers' layout."""
    return (folder / "config.json").is_file() and not (folder / "model_index.json").is_file()


def check_language_folder(folder: Path) -> None:
    """Checks that a folder holds a causal language model with safetensors and a tokenizer.

    Raises:
        EffaceError: it does not.
    """
    config = read_json(folder / "config.json")
    check_architecture(config, str(folder))
    if not list(folder.glob("*.safetensors")):
        pickles = [path.name for path in folder.iterdir() if path.suffix in _PICKLES]
        found = f"{pickles[0]} is a pickle, which can run code when it is read" if pickles else "it has no weights"
        raise EffaceError(f"{folder} holds no weights in safetensors ({found}): save it with model.save_pretrained")
    if not any((folder / name).is_file() for name in _TOKENIZERS):
        raise EffaceError(f"{folder} has no tokenizer: save it beside the model with tokenizer.save_pretrained")


def check_architecture(config: Any, where: str) -> None:
    """Checks that a model's configuration is that of a causal language model.

    Raises:
        EffaceError: it is another kind of model.
    """
    architectures = config.get("architectures") if isinstance(config, dict) else None
    if not architectures:
        raise EffaceError(f"{where} does not load: its config.json names no architectures")
    if not str(architectures[0]).endswith(("ForCausalLM", "LMHeadModel")):
        raise EffaceError(
            f"{where} is a {architectures[0]}, no causal language model (such as LlamaForCausalLM): give one"
        )
