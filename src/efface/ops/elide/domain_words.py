"""Domain words: words of the vocabulary with which a model itself generates members of a concept's domain.

The prompt "a weapon" may give the image of a dagger. A method that erases only the word "weapon" does not erase
"dagger". A denoiser is a classifier of its images (Li et al. 2023, arXiv 2303.16203): the better a word explains an
image, the smaller is the denoising error. The gain of a word w over the concept's name c is

    gain(w) = mean over images x of max(0, L(x, c) - L(x, w))
    L(x, w) = E_t || e(alpha_t x + sigma_t n, t, w) - n ||^2

for images x that the original generates for c, with the same noise n for every word. A word belongs to the domain if it
explains at least `MIN_IMAGES` images better than the name does. A greedy cover chooses the words: each by the gain that
the words before it leave unexplained. The ten words of highest gain alone might all be bows.

Two pools of candidates are possible. ``all``: the whole vocabulary, preselected by the gain on a quarter of the images.
``near``: words near the name and its images (`preselect`), covered repeatedly until nothing is left to explain.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from efface.core.concept import PLACEHOLDER, Concept, fill_templates, find_mention
from efface.core.errors import EffaceError, UnknownNameError
from efface.core.policy import is_refused
from efface.models.editable import EditableModel
from efface.ops.training.latents import Latents, generate_latents
from efface.ops.training.progress import Progress

from .greedy_cover import MIN_IMAGES, DomainWord, greedy_cover, repeated_greedy_cover
from .word_gains import error_gradients, word_gains

CANDIDATE_POOLS = ("all", "near")


@dataclass(frozen=True)
class MiningConfig:
    """Settings of `mine_domain_words`.

    Attributes:
        count: largest number of words; 0 returns none and generates no image.
        num_images: images of the concept.
        num_timesteps: timesteps at which each image is explained.
        candidates: pool of candidate words, one of `CANDIDATE_POOLS`.
        num_inference_steps: DDIM steps of an image.
        guidance_scale: guidance scale of an image.

    Raises:
        UnknownNameError: an unknown pool of candidates.
        EffaceError: fewer than `MIN_IMAGES` images.
    """

    count: int
    num_images: int = 64
    num_timesteps: int = 4
    candidates: str = "all"
    num_inference_steps: int = 20
    guidance_scale: float = 3.0

    def __post_init__(self) -> None:
        if self.candidates not in CANDIDATE_POOLS:
            raise UnknownNameError("pool of domain candidates", self.candidates, CANDIDATE_POOLS)
        if self.count and self.num_images < MIN_IMAGES:
            raise EffaceError(
                f"domain words need at least {MIN_IMAGES} images, not {self.num_images}: increase domain_images"
            )


@torch.no_grad()
def mine_domain_words(
    model: EditableModel, concept: Concept, config: MiningConfig, *, seed: int = 0, progress: Progress | None = None
) -> list[DomainWord]:
    """Finds words with which the model generates members of the concept's domain.

    Args:
        model: the original model.
        concept: its name fills the first of its templates; its own words and those of its retain prompts are no
            candidates.
        config: the settings.
        seed: seed of images and noise.
        progress: receives the number of generated images, then of scored words.

    Returns:
        The words in the order of the greedy covers.
    """
    if not config.count:
        return []
    template = concept.templates[0]
    name_prompt = fill_templates([template], [concept.name])
    images = _generate_images(model, name_prompt, config, seed, progress)
    generator = torch.Generator().manual_seed(seed)

    def gains(words: Sequence[str], latents: Latents, num_timesteps: int) -> Tensor:
        prompts = fill_templates([template], words)
        return word_gains(model, latents, name_prompt[0], prompts, num_timesteps, generator, progress)

    if config.candidates == "near":
        pool = candidate_pool(model, concept, whole_words=True)
        words = preselect(model, images, concept, pool, 3 * config.count, config.num_timesteps, generator)
        return repeated_greedy_cover(words, gains(words, images, config.num_timesteps), config.count)
    pool = candidate_pool(model, concept)
    quarter = Latents(model, images.x0[: max(1, config.num_images // 4)], images.prompt_index)
    mean_gains = gains(pool, quarter, max(1, config.num_timesteps // 2)).mean(1)
    words = [pool[i] for i in mean_gains.argsort(descending=True)[: 4 * config.count].tolist()]
    return greedy_cover(words, gains(words, images, config.num_timesteps), config.count)


def candidate_pool(model: EditableModel, concept: Concept, *, whole_words: bool = False) -> list[str]:
    """Returns the vocabulary's words, except the concept's, those in its retain prompts, and refused ones.

    Args:
        model: provides the vocabulary.
        concept: the concept.
        whole_words: whether to leave out fragments that only occur within longer words.
    """
    retained, template = " ".join(concept.retain_prompts), concept.templates[0]
    words = [word for word in model.vocabulary_words(whole_only=whole_words) if len(word) > 2 and word.isalpha()]
    words = [word for word in words if find_mention(word, concept.words) is None]
    words = [word for word in words if find_mention(retained, [word]) is None]
    return [word for word in words if not is_refused(template.replace(PLACEHOLDER, word))]


def preselect(
    model: EditableModel,
    images: Latents,
    concept: Concept,
    words: Sequence[str],
    count: int,
    num_timesteps: int,
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
    gradients = error_gradients(model, images, name_cond, num_timesteps, generator).flatten(1).float()
    decreases = -(gradients @ differences.T) / differences.norm(dim=1).clamp(min=1e-12)
    ranking = decreases.argsort(dim=1, descending=True)
    for rank in range(len(words)):
        for index in ranking[:, rank].tolist():
            if len(selected) >= min(count, len(words)):
                return [words[i] for i in selected]
            selected.setdefault(index)
    return [words[i] for i in selected]


def _generate_images(
    model: EditableModel, prompts: Sequence[str], config: MiningConfig, seed: int, progress: Progress | None
) -> Latents:
    return generate_latents(
        model,
        prompts,
        num_images=config.num_images,
        num_inference_steps=config.num_inference_steps,
        guidance_scale=config.guidance_scale,
        seed=seed,
        progress=progress,
    )
