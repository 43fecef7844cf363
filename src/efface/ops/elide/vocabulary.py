"""The whole words of a model's vocabulary: candidates for domain words, and words that an erasure must hold."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor
from torch.nn.functional import normalize

from efface.core.concept import PLACEHOLDER, Concept, fill_templates, find_mention
from efface.core.errors import EffaceError
from efface.core.policy import is_refused
from efface.models.editable import EditableModel

ENCODE_BATCH = 128
"""Prompts encoded at a time where no gradient is needed."""


def unnamed_words(model: EditableModel, concept: Concept) -> list[str]:
    """Returns the whole words of three letters or more that do not name the concept and that the policy allows.

    Raises:
        EffaceError: the vocabulary has none.
    """
    template = concept.templates[0]
    words = [word for word in model.vocabulary_words(whole_only=True) if len(word) > 2 and word.isalpha()]
    words = [word for word in words if find_mention(word, concept.words) is None]
    words = [word for word in words if not is_refused(template.replace(PLACEHOLDER, word))]
    if not words:
        raise EffaceError(
            f"the vocabulary of {model.name} has no whole words besides {concept.name!r}, so nothing can be mined or "
            "held: use a method that reads no vocabulary, such as uce or esd"
        )
    return words


def domain_candidates(model: EditableModel, concept: Concept) -> list[str]:
    """Returns the words that may belong to a concept's domain: unnamed ones that no retain prompt contains."""
    retained = " ".join(concept.retain_prompts)
    return [word for word in unnamed_words(model, concept) if find_mention(retained, [word]) is None]


@torch.no_grad()
def words_to_hold(
    model: EditableModel, concepts: Sequence[Concept], erased: Iterable[str], ambiguous_fraction: float
) -> list[str]:
    """Returns the words that an erasure must hold: all but the concepts' words, the erased ones and ambiguous ones.

    The words nearest to a concept's name, by the cosine of the pooled states, are ambiguous: some of them are synonyms
    that nobody named, others neighbours.

    Args:
        model: the original model.
        concepts: the concepts to erase.
        erased: further words that are erased.
        ambiguous_fraction: fraction of the words that is left out as ambiguous, 0 to 1.

    Raises:
        EffaceError: no word is left.
    """
    common = set.intersection(*(set(unnamed_words(model, concept)) for concept in concepts)) - set(erased)
    words, template = sorted(common), concepts[0].templates[0]
    left_out = round(ambiguous_fraction * len(words))
    if left_out >= len(words):
        raise EffaceError(
            f"no word of the vocabulary is left to hold: of {len(words)} words {left_out} are near the concept; "
            "lower ambiguous_fraction"
        )
    names = [concept.name for concept in concepts]
    nearness = (pooled_states(model, template, words) @ pooled_states(model, template, names).T).max(dim=1).values
    ambiguous = set(nearness.topk(left_out).indices.tolist())
    return [word for i, word in enumerate(words) if i not in ambiguous]


def pooled_states(model: EditableModel, template: str, words: Sequence[str]) -> Tensor:
    """Encodes each word in a template: unit vectors ``(W, D)``."""
    prompts = fill_templates([template], words)
    batches = [prompts[i : i + ENCODE_BATCH] for i in range(0, len(prompts), ENCODE_BATCH)]
    return normalize(torch.cat([model.encode(batch).pooled.float() for batch in batches]), dim=-1)
