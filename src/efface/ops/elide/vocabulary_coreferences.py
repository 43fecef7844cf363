"""Coreferents and retained neighbours of concepts from the model's own vocabulary, without a language model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from efface.core.concept import Concept, distinct_retain_prompts, find_mention
from efface.core.coreferences import Coreferences, check_coreferences, rank_words
from efface.core.errors import EffaceError
from efface.core.seeds import derive_seed
from efface.models.editable import EditableModel
from efface.ops.training.progress import Progress

from .denoiser_mining import mine_words_by_denoiser
from .image_mining import ImageTextTower, mine_words_from_images
from .vocabulary import pooled_states, unnamed_words

AMBIGUOUS_FRACTION = 0.02
"""Fraction of the vocabulary, nearest to the name, that is not retained: synonyms that nobody named, or neighbours."""


def coreferences_from_vocabulary(
    model: EditableModel,
    concepts: Sequence[Concept],
    tower: ImageTextTower | None,
    *,
    count: int,
    num_images: int,
    seed: int,
    progress: Progress | None = None,
) -> dict[str, Coreferences]:
    """Reads coreferents from images of each concept, as ELIDE's domain words, and retained words from retain prompts.

    A word's certainty follows from its rank.

    Args:
        model: the original model.
        concepts: the concepts; the retain prompts of each hold for all.
        tower: a CLIP model that reads the images; None: the denoiser reads them, which misses more words.
        count: largest number of coreferents of a concept, and of its retained words.
        num_images: images of each concept.
        seed: root seed of the images.
        progress: receives the number of images.

    Raises:
        EffaceError: the images show no other word, or no word is left to retain.
    """
    prompts = distinct_retain_prompts(concepts)
    mined = {}
    for concept in concepts:
        shared, own_seed = replace(concept, retain_prompts=prompts), derive_seed(seed, "images", concept.name)
        mined[concept.name] = _mine(model, shared, tower, count, num_images, own_seed, progress)
    erased = [word for concept in concepts for word in (*concept.words, *mined[concept.name])]
    found = {
        concept.name: Coreferences(
            rank_words(mined[concept.name]), rank_words(_nearest_words(model, concept, erased, prompts)[:count])
        )
        for concept in concepts
    }
    check_coreferences(found, concepts)
    return found


def _mine(
    model: EditableModel, concept: Concept, tower: ImageTextTower | None, count: int, num_images: int, seed: int,
    progress: Progress | None,
) -> list[str]:  # fmt: skip
    """Returns the words that images of a concept show; raises `EffaceError` if there are none."""
    if tower is None:
        words = mine_words_by_denoiser(model, concept, count=count, num_images=num_images, seed=seed, progress=progress)
    else:
        words = mine_words_from_images(model, tower, concept, num_images=num_images, seed=seed, progress=progress)
    if not words:
        raise EffaceError(
            f"the images of {concept.name!r} show no other word of the vocabulary: name its coreferents and retained "
            "words in a file (coreference_file)"
        )
    return words[:count]


@torch.no_grad()
def _nearest_words(
    model: EditableModel, concept: Concept, erased: Sequence[str], retain_prompts: Sequence[str]
) -> list[str]:
    """Returns words that are not erased, nearest to the name first, by the cosine of the pooled states.

    They are words of the retain prompts, because the nearest words of the vocabulary may belong to the concept. Without
    such words, they are the nearest words that are not ambiguous.
    """
    words = unnamed_words(model, concept)
    template = concept.templates[0]
    cosines = (pooled_states(model, template, words) @ pooled_states(model, template, [concept.name]).T)[:, 0]
    order = [words[i] for i in cosines.argsort(descending=True).tolist()]
    order = [word for word in order if find_mention(word, erased) is None]
    prompts = " | ".join(retain_prompts)
    named = [word for word in order if find_mention(prompts, [word]) is not None]
    return named or order[round(AMBIGUOUS_FRACTION * len(order)) :]
