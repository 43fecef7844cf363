"""Pairs of a prompt that names a concept and a safe prompt for what to generate instead."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from efface.core.concept import Concept
from efface.core.errors import EffaceError
from efface.ops.text.anchor_prompts import anchor_pairs


@dataclass(frozen=True)
class PromptPairs:
    """Pairs of prompts.

    Attributes:
        unsafe: prompts that name a concept.
        safe: their safe prompts.
    """

    unsafe: tuple[str, ...]
    safe: tuple[str, ...]

    @classmethod
    def from_concepts(cls, concepts: Sequence[Concept], num_templates: int) -> PromptPairs:
        """Fills templates with the words of all concepts; the safe prompt names the anchor, or only the context.

        Args:
            concepts: the concepts.
            num_templates: number of templates from the library, besides each concept's own prompts.

        Raises:
            EffaceError: no pair.
        """
        pairs: dict[str, str] = {}
        for concept in concepts:
            pairs |= anchor_pairs(concept, num_templates)
        if not pairs:
            raise EffaceError("there are no pairs of prompts: raise num_templates, or give the concept prompts")
        return cls(tuple(pairs), tuple(pairs.values()))

    def batch(self, step: int, size: int, generator: torch.Generator) -> tuple[list[str], list[str]]:
        """Returns the pairs of a step: a size of 1 goes through them in order, a larger one samples them."""
        if size == 1:
            rows = [step % len(self.unsafe)]
        else:
            rows = torch.randint(len(self.unsafe), (size,), generator=generator).tolist()
        return [self.unsafe[row] for row in rows], [self.safe[row] for row in rows]
