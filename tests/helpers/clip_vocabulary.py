"""Tiny random models with CLIP's own tokenizer, which read any prompt that a user types."""

from __future__ import annotations

from pathlib import Path
from unittest import mock

from efface.models.clip_tokenizer import clip_tokenizer

from . import classifiers, tiny

CONTEXT = 77


def stable_diffusion_folder(path: Path) -> Path:
    """Saves a tiny Stable Diffusion 1 in diffusers layout."""
    with (
        mock.patch.object(tiny, "tiny_tokenizer", return_value=clip_tokenizer()),
        mock.patch.object(tiny, "CONTEXT", CONTEXT),
    ):
        tiny.tiny_pipe().save_pretrained(path)
    return path


def clip_folder(path: Path) -> Path:
    """Saves a tiny CLIP model in transformers layout."""
    path.mkdir()
    with (
        mock.patch.object(classifiers, "tiny_tokenizer", clip_tokenizer),
        mock.patch.object(classifiers, "CONTEXT", CONTEXT),
    ):
        classifiers.saved_clip(path)
    return path
