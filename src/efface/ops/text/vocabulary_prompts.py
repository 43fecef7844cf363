"""Prompts of words of the model's own vocabulary."""

from __future__ import annotations

from efface.core.subsample import evenly_spaced
from efface.models.editable import EditableModel

from .templates import template_library


def vocabulary_prompts(model: EditableModel, count: int) -> list[str]:
    """Puts words of the model's vocabulary into templates, one each.

    Args:
        model: its tokenizer gives the words.
        count: number of words, evenly spaced over the vocabulary; all if there are fewer.
    """
    templates = template_library("object")
    words = evenly_spaced(tuple(model.vocabulary_words(whole_only=True)), count)
    return [templates[i % len(templates)].replace("{}", word) for i, word in enumerate(words)]
