"""The words by which a model itself draws a concept: asked of the model, with nothing but its own vocabulary.

Whoever asks for a weapon is drawn a dagger; erase "weapon", and the dagger is still there under its own name. A denoiser is a classifier
of what it draws (Li et al. 2023, arXiv 2303.16203): the better a word explains an image, the less noise is left unexplained,

    gain(w) = mean over images x of max(0, L(x, c) - L(x, w)),        L(x, w) = E_t || e(alpha_t x + sigma_t n, t, w) - n ||^2

over images that the original draws for the concept c, with the same noise n for every word. A word belongs to the domain where it
explains some images of the concept, `AGREED` or more, better than the concept's own name does. Words are chosen to cover what it is drawn
as, each by what those before it leave unexplained: the ten best alone might all be bows.

Which words are asked about: ``all``, by a quarter of the images, and the best by all of them; or those ``near`` the name and its images
(`shortlist`), of which some explain all that is explained, and then others explain it once more.
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
from efface.models.protocol import Conditioning
from efface.ops.training.latents import Latents, generate_latents
from efface.ops.training.progress import Progress, Silent

CANDIDATE_POOLS = ("all", "near")
TIMESTEP_RANGE = (0.15, 0.75)
"""Noise levels, as shares of all timesteps, at which what an image shows is decided."""
MIN_IMAGES = 2
"""Images that a word must explain better than the name does: a single one may be an accident of the sampler, and its words strangers."""


@dataclass(frozen=True)
class DomainWord:
    """A word, what it explains beyond the name and the words before it, and the share of images that it explains better than the name."""

    word: str
    gain: float
    share: float


@torch.no_grad()
def mine_domain_words(
    model: EditableModel, concept: Concept, *, count: int, images: int = 64, levels: int = 4, asked: str = "all", seed: int = 0,
    steps: int = 20, guidance: float = 3.0, progress: Progress | None = None,
) -> list[DomainWord]:  # fmt: skip
    """At most ``count`` words of the vocabulary by which the model draws the concept, the one that explains most first (greedy covers).

    Args:
        model: the original.
        concept: its name is asked for in the first of its templates; its own words and those of its retain set are no candidates.
        count: how many; 0 asks nothing.
        images: of the concept.
        levels: noise levels an image.
        asked: which words: one of `ASKED`.
        seed: of images and noise.
        steps: of the sampler.
        guidance: its scale.
        progress: where to show how far it is.

    Raises:
        UnknownName: another choice of words. EffaceError: fewer images than must agree.
    """
    if asked not in CANDIDATE_POOLS:
        raise UnknownNameError("choice of words", asked, CANDIDATE_POOLS)
    if not count:
        return []
    if images < MIN_IMAGES:
        raise EffaceError(f"own words are told from at least {MIN_IMAGES} images, not {images}: give words_images more")
    frame = concept.templates[0]
    own = fill_templates([frame], [concept.name])
    drawn = generate_latents(model, own, count=images, steps=steps, guidance=guidance, seed=seed, progress=progress)
    generator = torch.Generator().manual_seed(seed)
    if asked == "near":
        words = preselect(
            model, drawn, concept, candidate_pool(model, concept, alone=True), 3 * count, levels, generator
        )
        return repeated_greedy_cover(
            words, _gains(model, drawn, own, fill_templates([frame], words), levels, generator, progress), count
        )
    few, words = Latents(model, drawn.x0[: max(1, images // 4)], drawn.prompt), candidate_pool(model, concept)
    gains = _gains(model, few, own, fill_templates([frame], words), max(1, levels // 2), generator, progress)
    best = [words[i] for i in gains.mean(1).argsort(descending=True)[: 4 * count].tolist()]
    return greedy_cover(
        best, _gains(model, drawn, own, fill_templates([frame], best), levels, generator, progress), count
    )


def preselect(
    model: EditableModel, images: Latents, concept: Concept, words: Sequence[str], count: int, levels: int, generator: torch.Generator
) -> list[str]:  # fmt: skip
    """The words worth asking about: those nearest to the name, and those towards which each image's error falls most steeply.

    By how little turns E_pooled(w) away from E_pooled(c), and by - < dL(x, h)/dh at h = E(c), E(w) - E(c) > / | E(w) - E(c) |.
    """
    frame = concept.templates[0]
    name, others = model.encode(fill_templates([frame], [concept.name])), model.encode(fill_templates([frame], words))
    likeness = cosine_similarity(others.pooled.float(), name.pooled.float(), dim=-1)
    found = dict.fromkeys(likeness.argsort(descending=True)[: count // 2].tolist())
    away = (others.states - name.states).flatten(1).float()
    slope = _slopes(model, images, name, levels, generator).flatten(1).float()
    towards = -(slope @ away.T) / away.norm(dim=1).clamp(min=1e-12)
    ranked = towards.argsort(dim=1, descending=True)
    for place in range(len(words)):
        for best in ranked[:, place].tolist():
            if len(found) >= min(count, len(words)):
                return [words[i] for i in found]
            found.setdefault(best)
    return [words[i] for i in found]


def _slopes(
    model: EditableModel, images: Latents, cond: Conditioning, levels: int, generator: torch.Generator
) -> Tensor:
    """dL(x, h)/dh at the name's states, by image: ``(N, L, D)``."""
    rows = []
    for clean in images.x0:
        x, t = clean[None].expand(levels, -1, -1, -1), _levels(model, levels).to(clean.device)
        noise = torch.randn(x.shape, generator=generator).to(x)
        with torch.enable_grad():
            states = cond.states.detach().requires_grad_(True)
            given = Conditioning(states.expand(levels, -1, -1), cond.pooled.expand(levels, -1))
            error = (model.predict(model.add_noise(x, noise, t), t, given).epsilon - noise).square().mean()
            rows.append(torch.autograd.grad(error, states)[0][0])
    return torch.stack(rows)


def _levels(model: EditableModel, levels: int) -> Tensor:
    return (torch.linspace(TIMESTEP_RANGE[0], TIMESTEP_RANGE[1], levels + 2)[1:-1] * model.timesteps).long()


def repeated_greedy_cover(words: Sequence[str], gains: Tensor, count: int) -> list[DomainWord]:
    """Of words with gains ``(W, N)``, those that together explain most, then of the rest those that do, until nothing is left."""
    found, left = list[DomainWord](), list(range(len(words)))
    while left and len(found) < count:
        more = greedy_cover([words[i] for i in left], gains[left], count - len(found))
        if not more:
            break
        found += more
        left = [i for i in left if all(words[i] != own.word for own in found)]
    return found


def greedy_cover(words: Sequence[str], gains: Tensor, count: int) -> list[DomainWord]:
    """Of words with gains ``(W, N)`` on at least `AGREED` images, those that together explain most (one greedy cover)."""
    explained, found, agreed = torch.zeros_like(gains[0]), list[DomainWord](), (gains > 0).sum(1) >= MIN_IMAGES
    for _ in range(min(count, len(words))):
        more = (gains - explained).clamp(min=0).mean(1) * agreed
        best = int(more.argmax())
        if more[best] <= 0:
            break
        found.append(DomainWord(words[best], float(more[best]), float((gains[best] > 0).float().mean())))
        explained = torch.maximum(explained, gains[best])
    return found


def candidate_pool(model: EditableModel, concept: Concept, *, alone: bool = False) -> list[str]:
    """Words (``alone``: that stand alone) without the concept's own, those of its retain set, and what the policy refuses."""
    kept, frame = " ".join(concept.retain_prompts), concept.templates[0]
    whole = [word for word in model.vocabulary_words(alone=alone) if len(word) > 2 and word.isalpha()]
    other = [word for word in whole if find_mention(word, concept.words) is None and find_mention(kept, [word]) is None]
    return [word for word in other if not is_refused(frame.replace(PLACEHOLDER, word))]


def _gains(
    model: EditableModel, images: Latents, own: Sequence[str], others: Sequence[str], levels: int, generator: torch.Generator,
    progress: Progress | None, batch: int = 64,
) -> Tensor:  # fmt: skip
    """max(0, L(x, c) - L(x, w)) by word and image, ``(W, N)``."""
    clean = images.x0.repeat_interleave(levels, 0)
    t = _levels(model, levels).repeat(len(images.x0)).to(clean.device)
    noise = torch.randn(clean.shape, generator=generator).to(clean)
    z = model.add_noise(clean, noise, t)
    shown, rows = progress or Silent(), []
    shown.start("asking which words it draws by", len(others) + 1, 0)
    try:
        for i, prompt in enumerate([*own, *others]):
            cond = model.encode([prompt])
            losses = [
                (model.predict(z[s : s + batch], t[s : s + batch], _repeat(cond, len(z[s : s + batch]))).epsilon - noise[s : s + batch])
                .square().mean((1, 2, 3))
                for s in range(0, len(z), batch)
            ]  # fmt: skip
            rows.append(torch.cat(losses).view(-1, levels).mean(1))
            shown.update(i + 1, {})
    finally:
        shown.stop()
    return (rows[0] - torch.stack(rows[1:])).clamp(min=0)


def _repeat(cond: Conditioning, count: int) -> Conditioning:
    return Conditioning(cond.states.expand(count, -1, -1), cond.pooled.expand(count, -1))
