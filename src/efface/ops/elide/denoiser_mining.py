"""The words with which the denoiser explains a concept's images: mining without an image tower.

A denoiser is a classifier of its images (Li et al. 2023, arXiv 2303.16203): the better a word explains an image, the
smaller is the denoising error. The gain of a word w over the concept's name c is

    gain(w) = mean over images x of max(0, L(x, c) - L(x, w))
    L(x, w) = E_t || e(alpha_t x + sigma_t n, t, w) - n ||^2

for images x that the original generates for c, with the same noise n for every word. A greedy cover chooses the words:
each by the gain that the words before it leave unexplained. The ten words of highest gain alone might all be bows.
Candidates are the words near the concept's name and those in whose direction the error of an image falls most steeply.
It misses more members than the image tower does (`image_mining`).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn.functional import cosine_similarity

from efface.core.concept import Concept, fill_templates
from efface.core.errors import EffaceError
from efface.models.editable import EditableModel
from efface.ops.training.latents import Latents, generate_latents
from efface.ops.training.progress import Progress

from .greedy_cover import MIN_IMAGES, repeated_greedy_cover
from .vocabulary import domain_candidates
from .word_gains import error_gradients, word_gains

NUM_TIMESTEPS = 4
"""Timesteps at which each image is explained."""


@torch.no_grad()
def mine_words_by_denoiser(
    model: EditableModel,
    concept: Concept,
    *,
    count: int,
    num_images: int,
    seed: int = 0,
    progress: Progress | None = None,
) -> list[str]:
    """Finds words with which the model generates members of the concept's domain.

    Args:
        model: the original model.
        concept: its name fills the first of its templates.
        count: largest number of words.
        num_images: images of the concept.
        seed: seed of images and noise.
        progress: receives the number of generated images, then of scored words.

    Returns:
        The words in the order of the greedy covers.

    Raises:
        EffaceError: fewer than `MIN_IMAGES` images.
    """
    if num_images < MIN_IMAGES:
        raise EffaceError(
            f"domain words need at least {MIN_IMAGES} images, not {num_images}: increase domain_images, or set it to 0"
        )
    template = concept.templates[0]
    name_prompt = fill_templates([template], [concept.name])
    images = generate_latents(
        model, name_prompt, num_images=num_images, num_inference_steps=20,
        guidance_scale=model.default_guidance_scale, seed=seed, progress=progress,
    )  # fmt: skip
    generator = torch.Generator().manual_seed(seed)
    words = preselect(model, images, concept, domain_candidates(model, concept), 3 * count, generator)
    prompts = fill_templates([template], words)
    gains = word_gains(model, images, name_prompt[0], prompts, NUM_TIMESTEPS, generator, progress)
    return repeated_greedy_cover(words, gains, count)


def preselect(
    model: EditableModel,
    images: Latents,
    concept: Concept,
    words: Sequence[str],
    count: int,
    generator: torch.Generator,
) -> list[str]:
    """Preselects ``count`` words that are near the concept's name or its images.

    Half of the words have the largest cosine between E_pooled(w) and E_pooled(c). The others have, for some image, the
    steepest decrease of the denoising error, - < dL(x, h)/dh at h = E(c), E(w) - E(c) > / | E(w) - E(c) |.
    """
    template = concept.templates[0]
    name_cond = model.encode(fill_templates([template], [concept.name]))
    word_cond = model.encode(fill_templates([template], words))
    cosines = cosine_similarity(word_cond.pooled.float(), name_cond.pooled.float(), dim=-1)
    selected = dict.fromkeys(cosines.argsort(descending=True)[: count // 2].tolist())
    differences = (word_cond.states - name_cond.states).flatten(1).float()
    gradients = error_gradients(model, images, name_cond, NUM_TIMESTEPS, generator).flatten(1).float()
    decreases = -(gradients @ differences.T) / differences.norm(dim=1).clamp(min=1e-12)
    ranking = decreases.argsort(dim=1, descending=True)
    for rank in range(len(words)):
        for index in ranking[:, rank].tolist():
            if len(selected) >= min(count, len(words)):
                return [words[i] for i in selected]
            selected.setdefault(index)
    return [words[i] for i in selected]
