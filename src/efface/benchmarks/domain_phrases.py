"""Phrases for a concept that no method receives, read from the model's own images by a CLIP model."""

from __future__ import annotations

from collections.abc import Sequence

from efface.core.concept import Concept
from efface.core.errors import EffaceError
from efface.models.editable import EditableModel
from efface.ops.elide.image_mining import mine_words_from_images
from efface.ops.training.progress import Progress

from .detector_loading import load_clip

NUM_IMAGES = 64
"""Images of the concept, and as many of the retain prompts."""
MAX_WORDS = 8


def mine_domain_phrases(
    model: EditableModel, concept: Concept, retain_prompts: Sequence[str], clip: str, progress: Progress | None = None
) -> tuple[str, ...]:
    """Returns up to `MAX_WORDS` words of the model's vocabulary that its images of the concept show.

    ELIDE reads its domain words in the same way (`efface.ops.elide.image_mining`), with other seeds.

    Args:
        model: the model, which generates the images.
        concept: the concept; its retain prompts are replaced.
        retain_prompts: prompts whose images give the comparison.
        clip: ``pocket-clip``, a folder or a hub id.
        progress: progress display.

    Raises:
        EffaceError: the CLIP model does not load, or the images show no word of the vocabulary.
    """
    compared = Concept(concept.name, concept.kind, synonyms=concept.synonyms, retain_prompts=tuple(retain_prompts))
    tower = load_clip(clip, model.device)
    words = mine_words_from_images(model, tower, compared, num_images=NUM_IMAGES, seed=30000, progress=progress)
    if not words:
        raise EffaceError(
            f"{clip} sees no word of the vocabulary of {model.name} in its images of {concept.name!r}: name other "
            "phrases for the concept with --domain"
        )
    return tuple(words[:MAX_WORDS])
