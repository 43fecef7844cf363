"""Prompts that name a concept, each with the prompt for what to generate instead."""

from __future__ import annotations

from efface.core.concept import Concept, fill_templates
from efface.core.subsample import evenly_spaced

from .templates import library_templates, names_context, remove_concept


def anchor_pairs(concept: Concept, num_templates: int) -> dict[str, str]:
    """Pairs every prompt that names the concept with its anchor prompt, or with the prompt without the concept."""
    pairs: dict[str, str] = {}
    usable = [template for template in library_templates(concept) if concept.anchor or names_context(template)]
    for template in (*concept.templates, *evenly_spaced(usable, num_templates)):
        anchor = fill_templates([template], [concept.anchor])[0] if concept.anchor else remove_concept(template)
        pairs |= dict.fromkeys(fill_templates([template], concept.words), anchor)
    return pairs | dict.fromkeys(concept.prompts, concept.anchor)
