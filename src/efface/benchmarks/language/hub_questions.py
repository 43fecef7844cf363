"""Rows of a dataset of the Hugging Face hub, through the library datasets, which lm-eval brings along."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from efface.core.errors import EffaceError

INSTALL = "pip install 'efface[lm-eval]'"


def download_rows(name: str, subset: str | None, split: str) -> list[Mapping[str, Any]]:
    """Downloads a dataset's rows; runs no code of the dataset.

    Args:
        name: hub id of the dataset, such as ``cais/wmdp``.
        subset: its configuration, such as ``wmdp-bio``; None for the only one.
        split: its split.

    Raises:
        EffaceError: datasets is not installed, or the dataset is gated, does not exist or cannot be reached.
    """
    try:
        import datasets
    except ImportError as error:
        raise EffaceError(f"a dataset of the hub needs the library datasets: {INSTALL}, or give a file") from error
    try:
        return list(datasets.load_dataset(name, subset, split=split))
    except Exception as error:
        raise EffaceError(hub_message(name, error)) from error


def hub_message(name: str, error: BaseException) -> str:
    """Returns one line about a dataset that did not load, with the cure."""
    text = " ".join(str(error).split()) or type(error).__name__
    if any(word in text.lower() for word in ("gated", "authenticated", "401", "403")):
        return f"the dataset {name} is gated: accept its terms on the hub, then `hf auth login` or set HF_TOKEN"
    return f"the dataset {name} does not load ({text[:160]}): check its name, subset and split, or give a file"
