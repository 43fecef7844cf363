"""The words by which a model itself draws a concept: asked of the model, with nothing but its own vocabulary.

Whoever asks for a weapon is drawn a dagger; erase "weapon", and the dagger is still there under its own name. A denoiser is a classifier
of what it draws (Li et al. 2023, arXiv 2303.16203): the better a word explains a picture, the less noise is left unexplained,

    gain(w) = mean over pictures x of max(0, L(x, c) - L(x, w)),        L(x, w) = E_t || e(alpha_t x + sigma_t n, t, w) - n ||^2

over pictures that the original draws for the concept c, with the same noise n for every word. A word belongs to the domain where it
explains some pictures of the concept, `AGREED` or more, better than the concept's own name does. Words are chosen to cover what it is drawn
as, each by what those before it leave unexplained: the ten best alone might all be bows.

Which words are asked about: ``all``, by a quarter of the pictures, and the best by all of them; or those ``near`` the name and its pictures
(`shortlist`), of which some explain all that is explained, and then others explain it once more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from efface.core.concept import SLOT, Concept, fill, mentions
from efface.core.errors import EffaceError, UnknownName
from efface.core.policy import refuses
from efface.models.editable import Editable
from efface.models.protocol import Conditioning
from efface.ops.training.latents import Latents, draw_latents
from efface.ops.training.progress import Progress, Silent

ASKED = ("all", "near")
BAND = (0.15, 0.75)
"""Noise levels, as shares of all timesteps, at which what a picture shows is decided."""
AGREED = 2
"""Pictures that a word must explain better than the name does: a single one may be an accident of the sampler, and its words strangers."""


@dataclass(frozen=True)
class OwnWord:
    """A word, what it explains beyond the name and the words before it, and the share of pictures that it explains better than the name."""

    word: str
    gain: float
    share: float


@torch.no_grad()
def own_words(
    model: Editable, concept: Concept, *, count: int, pictures: int = 64, levels: int = 4, asked: str = "all", seed: int = 0,
    steps: int = 20, guidance: float = 3.0, progress: Progress | None = None,
) -> list[OwnWord]:  # fmt: skip
    """At most ``count`` words of the vocabulary by which the model draws the concept, the one that explains most first (greedy covers).

    Args:
        model: the original.
        concept: its name is asked for in the first of its templates; its own words and those of its retain set are no candidates.
        count: how many; 0 asks nothing.
        pictures: of the concept.
        levels: noise levels a picture.
        asked: which words: one of `ASKED`.
        seed: of pictures and noise.
        steps: of the sampler.
        guidance: its scale.
        progress: where to show how far it is.

    Raises:
        UnknownName: another choice of words. EffaceError: fewer pictures than must agree.
    """
    if asked not in ASKED:
        raise UnknownName("choice of words", asked, ASKED)
    if not count:
        return []
    if pictures < AGREED:
        raise EffaceError(
            f"own words are told from at least {AGREED} pictures, not {pictures}: give words_pictures more"
        )
    frame = concept.templates[0]
    own = fill([frame], [concept.name])
    drawn = draw_latents(model, own, count=pictures, steps=steps, guidance=guidance, seed=seed, progress=progress)
    generator = torch.Generator().manual_seed(seed)
    if asked == "near":
        words = shortlist(model, drawn, concept, candidates(model, concept, alone=True), 3 * count, levels, generator)
        return covers(words, _gains(model, drawn, own, fill([frame], words), levels, generator, progress), count)
    few, words = Latents(model, drawn.clean[: max(1, pictures // 4)], drawn.prompt), candidates(model, concept)
    gains = _gains(model, few, own, fill([frame], words), max(1, levels // 2), generator, progress)
    best = [words[i] for i in gains.mean(1).argsort(descending=True)[: 4 * count].tolist()]
    return chosen(best, _gains(model, drawn, own, fill([frame], best), levels, generator, progress), count)


def shortlist(
    model: Editable, pictures: Latents, concept: Concept, words: Sequence[str], count: int, levels: int, generator: torch.Generator
) -> list[str]:  # fmt: skip
    """The words worth asking about: those nearest to the name, and those towards which each picture's error falls most steeply.

    By how little turns E_pooled(w) away from E_pooled(c), and by - < dL(x, h)/dh at h = E(c), E(w) - E(c) > / | E(w) - E(c) |.
    """
    frame = concept.templates[0]
    name, others = model.encode(fill([frame], [concept.name])), model.encode(fill([frame], words))
    likeness = cosine_similarity(others.pooled.float(), name.pooled.float(), dim=-1)
    found = dict.fromkeys(likeness.argsort(descending=True)[: count // 2].tolist())
    away = (others.states - name.states).flatten(1).float()
    slope = _slopes(model, pictures, name, levels, generator).flatten(1).float()
    towards = -(slope @ away.T) / away.norm(dim=1).clamp(min=1e-12)
    ranked = towards.argsort(dim=1, descending=True)
    for place in range(len(words)):
        for best in ranked[:, place].tolist():
            if len(found) >= min(count, len(words)):
                return [words[i] for i in found]
            found.setdefault(best)
    return [words[i] for i in found]


def _slopes(model: Editable, pictures: Latents, cond: Conditioning, levels: int, generator: torch.Generator) -> Tensor:
    """dL(x, h)/dh at the name's states, by picture: ``(N, L, D)``."""
    rows = []
    for clean in pictures.clean:
        x, t = clean[None].expand(levels, -1, -1, -1), _levels(model, levels).to(clean.device)
        noise = torch.randn(x.shape, generator=generator).to(x)
        with torch.enable_grad():
            states = cond.states.detach().requires_grad_(True)
            given = Conditioning(states.expand(levels, -1, -1), cond.pooled.expand(levels, -1))
            error = (model.predict(model.noised(x, noise, t), t, given).epsilon - noise).square().mean()
            rows.append(torch.autograd.grad(error, states)[0][0])
    return torch.stack(rows)


def _levels(model: Editable, levels: int) -> Tensor:
    return (torch.linspace(BAND[0], BAND[1], levels + 2)[1:-1] * model.timesteps).long()


def covers(words: Sequence[str], gains: Tensor, count: int) -> list[OwnWord]:
    """Of words with gains ``(W, N)``, those that together explain most, then of the rest those that do, until nothing is left."""
    found, left = list[OwnWord](), list(range(len(words)))
    while left and len(found) < count:
        more = chosen([words[i] for i in left], gains[left], count - len(found))
        if not more:
            break
        found += more
        left = [i for i in left if all(words[i] != own.word for own in found)]
    return found


def chosen(words: Sequence[str], gains: Tensor, count: int) -> list[OwnWord]:
    """Of words with gains ``(W, N)`` on at least `AGREED` pictures, those that together explain most (one greedy cover)."""
    explained, found, agreed = torch.zeros_like(gains[0]), list[OwnWord](), (gains > 0).sum(1) >= AGREED
    for _ in range(min(count, len(words))):
        more = (gains - explained).clamp(min=0).mean(1) * agreed
        best = int(more.argmax())
        if more[best] <= 0:
            break
        found.append(OwnWord(words[best], float(more[best]), float((gains[best] > 0).float().mean())))
        explained = torch.maximum(explained, gains[best])
    return found


def candidates(model: Editable, concept: Concept, *, alone: bool = False) -> list[str]:
    """Words (``alone``: that stand alone) without the concept's own, those of its retain set, and what the policy refuses."""
    kept, frame = " ".join(concept.retain), concept.templates[0]
    whole = [word for word in model.words(alone=alone) if len(word) > 2 and word.isalpha()]
    other = [word for word in whole if mentions(word, concept.words) is None and mentions(kept, [word]) is None]
    return [word for word in other if not refuses(frame.replace(SLOT, word))]


def _gains(
    model: Editable, pictures: Latents, own: Sequence[str], others: Sequence[str], levels: int, generator: torch.Generator,
    progress: Progress | None, batch: int = 64,
) -> Tensor:  # fmt: skip
    """max(0, L(x, c) - L(x, w)) by word and picture, ``(W, N)``."""
    clean = pictures.clean.repeat_interleave(levels, 0)
    t = _levels(model, levels).repeat(len(pictures.clean)).to(clean.device)
    noise = torch.randn(clean.shape, generator=generator).to(clean)
    z = model.noised(clean, noise, t)
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
