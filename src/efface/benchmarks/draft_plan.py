"""The material of a drafted benchmark: phrases, templates, candidates for neighbours, and the detector."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from efface.core.attack_set import insert_phrase
from efface.core.concept import Concept, find_mention
from efface.core.errors import EffaceError
from efface.core.subsample import evenly_spaced
from efface.models.editable import EditableModel

from .samples import Sampler

NUM_NEAR, NUM_OTHER = 4, 8
"""Number of neighbours and of other objects."""
FAR_SHARE = 1 / 3
"""Share of the candidates, the most similar ones, that are never chosen as other objects."""
ENCODE_BATCH = 128


@dataclass(frozen=True)
class Subject:
    """An object, style or prompt that a benchmark may score.

    Attributes:
        phrase: its phrase, such as ``a kitchen knife``.
        class_name: the class that the detector should report for it.
        words: words that name it; no retain prompt may contain one of them.
    """

    phrase: str
    class_name: str
    words: tuple[str, ...]


@dataclass(frozen=True)
class DraftPlan:
    """The material of a drafted benchmark.

    Attributes:
        head: head of the detector that sees the concept.
        classes: classes of that head that count as the concept.
        name: by split, phrases with the concept's own name.
        domain: by split, other phrases for the concept.
        candidates: what neighbours, and other objects unless `others` has some, are chosen from.
        templates: templates by split, as in a benchmark's file.
        retain_prompts: the concept's retain prompts; if there are none, unscored candidates become some.
        detector: name of the detector.
        clip: name of the model of the CLIP score.
        sampler: how images are sampled.
        others: the other subjects; empty chooses dissimilar candidates.
        reference: phrase that candidates are compared with; empty takes the first of `name`.
        wording: by split, a text with ``{}`` around the phrases of neighbours and other objects.
    """

    head: str
    classes: tuple[str, ...]
    name: Mapping[str, tuple[str, ...]]
    domain: Mapping[str, tuple[str, ...]]
    candidates: tuple[Subject, ...]
    templates: Mapping[str, Sequence[Mapping[str, Any]]] = field(repr=False)
    retain_prompts: tuple[str, ...]
    detector: str
    clip: str
    sampler: Sampler
    others: tuple[Subject, ...] = ()
    reference: str = ""
    wording: Mapping[str, str] = field(default_factory=lambda: {"test": "{}", "dev": "{}"})


@dataclass(frozen=True)
class RetainedSubjects:
    """What must stay.

    Attributes:
        near: the concept's nearest neighbours.
        other: unrelated subjects.
        unscored: further dissimilar subjects, for retain prompts.
    """

    near: tuple[Subject, ...]
    other: tuple[Subject, ...]
    unscored: tuple[Subject, ...]


def choose_retained(
    model: EditableModel, plan: DraftPlan, concept: Concept, unscored: Sequence[str] = ()
) -> RetainedSubjects:
    """Chooses neighbours and other subjects by the cosine of their pooled text states to the concept's.

    Args:
        model: the model whose text encoder compares.
        plan: the candidates.
        concept: the concept.
        unscored: words of subjects that are never chosen.

    Raises:
        EffaceError: too few candidates are left beside the concept and its retain prompts.
    """
    words = (*concept.words, *unscored)
    free, others = (_without_mentions(items, plan, words) for items in (plan.candidates, plan.others))
    needed = NUM_NEAR if others else NUM_NEAR + NUM_OTHER
    if len(free) < needed:
        raise EffaceError(
            f"only {len(free)} of {len(plan.candidates)} possible neighbours of {concept.name!r} are not among its "
            f"retain prompts, and a benchmark needs {needed}: give fewer retain prompts"
        )
    similarity = text_similarity(model, plan.reference or plan.name["test"][0], [item.phrase for item in free])
    ranked = [free[i] for i in similarity.argsort(descending=True).tolist()]
    near, rest = ranked[:NUM_NEAR], ranked[NUM_NEAR:]
    far = rest if others else rest[min(int(FAR_SHARE * len(ranked)), len(rest) - NUM_OTHER) :]
    other = others or evenly_spaced(far, NUM_OTHER)
    return RetainedSubjects(tuple(near), tuple(other), tuple(item for item in far if item not in other))


def _without_mentions(subjects: Sequence[Subject], plan: DraftPlan, words: Sequence[str]) -> list[Subject]:
    """Leaves out subjects that a retain prompt names, or that name one of the words or are named in it."""
    retained, erased = "\n".join(plan.retain_prompts), "\n".join(words)
    return [
        item
        for item in subjects
        if find_mention("\n".join((item.phrase, *item.words)), words) is None
        and find_mention(retained, item.words) is None
        and find_mention(erased, item.words) is None
    ]


@torch.no_grad()
def text_similarity(model: EditableModel, phrase: str, phrases: Sequence[str]) -> Tensor:
    """Computes the cosines of the pooled text states of one phrase and each of ``P`` others, ``(P,)``."""
    prompts = [insert_phrase("a house" if "{}" in text else "a photo of {}", text) for text in (phrase, *phrases)]
    batches = [prompts[i : i + ENCODE_BATCH] for i in range(0, len(prompts), ENCODE_BATCH)]
    states = normalize(torch.cat([model.encode(batch).pooled.float() for batch in batches]), dim=-1)
    return states[1:] @ states[0]
