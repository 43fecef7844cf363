"""The sentences that a concept is erased in: tokens, trajectories, and what is to be predicted for them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from functools import cached_property

import torch
from torch import Tensor

from efface.core.concept import fill_templates
from efface.core.errors import EffaceError
from efface.core.subsample import evenly_spaced
from efface.models.editable import EditableModel
from efface.models.protocol import Conditioning, Tokens
from efface.models.soft_prompt import SoftTokens
from efface.ops.targets import neg_guidance
from efface.ops.training.trajectory_pool import TrajectoryBatch, TrajectoryPool

from .concept_tokens import ConceptTokens, locate_concept
from .templates import remove_concept

TARGETS = ("neg_concept", "neg_prompt", "neg_keep_context", "concept_free")


@dataclass(frozen=True)
class TrajectoryConfig:
    """How trajectories are drawn: runs for each prompt, DDIM steps of a run, guidance scale."""

    per_prompt: int = 1
    num_inference_steps: int = 50
    guidance_scale: float = 3.0


@dataclass(frozen=True)
class ConceptPrompts:
    """Sentences about one concept.

    Attributes:
        prompts: the sentences, P of them.
        frames: as tokens, ``(P, L)``.
        alone: the word that each is about, by itself.
        named: E*'s conditioning of what is taken out of each.
        rest: E*'s conditioning of the sentences without the concept.
        shorter: these sentences as tokens.
        pool: trajectories of the sentences.
        beside: how many of them, the last ones, are with other words than the concept's.
    """

    prompts: tuple[str, ...]
    frames: ConceptTokens
    alone: ConceptTokens
    concept_cond: Conditioning
    context_cond: Conditioning
    context_tokens: Tokens
    pool: TrajectoryPool
    n_domain: int = 0
    _rest: dict[int, Tensor] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def of(
        cls, model: EditableModel, words: Sequence[str], templates: Sequence[str], runs: TrajectoryConfig, seed: int, *, named: str | None = None,
        beside: Sequence[str] = (), each: int | None = None,
    ) -> ConceptPrompts:  # fmt: skip
        """Every template with every word; what is taken out of it is ``named``, by default the word itself.

        Args:
            model: the original.
            words: the concept's.
            templates: with a ``{}`` each.
            runs: of the pool.
            seed: of the pool.
            named: what is taken out.
            beside: other words that show the concept.
            each: in so many of the templates, evenly spread; None: in all.

        Raises:
            EffaceError: no template at all, or a word that is cut off by the context.
        """
        own = _rows(words, templates)
        if not own:
            raise EffaceError(
                "there is no sentence to erase the concept in: give templates with a {} and something around it"
            )
        rows = own | {
            prompt: row for prompt, row in _rows(beside, evenly_spaced(templates, each)).items() if prompt not in own
        }
        prompts, about = tuple(rows), [word for word, _ in rows.values()]
        frames, alone = locate_concept(model, prompts, about), locate_concept(model, about, about)
        pool = TrajectoryPool(
            model,
            prompts,
            runs=runs.per_prompt,
            steps=runs.num_inference_steps,
            guidance=runs.guidance_scale,
            seed=seed,
        )
        shorter = model.tokenize([rest for _, rest in rows.values()])
        with torch.no_grad():
            taken, rest = model.encode([named or word for word in about]), model.encode(shorter)
        return cls(prompts, frames, alone, taken, rest, shorter, pool, len(rows) - len(own))

    @cached_property
    def aligned_states(self) -> Tensor:
        """The states of `rest`, laid on the sentences' own places (`lay`), ``(P, L, D)``; made when they are first wanted."""
        return align_states(self.frames, self.pool.cond.states, self.context_tokens, self.context_cond.states)

    def draw(self, size: int, generator: torch.Generator, *, beside: bool = False) -> TrajectoryBatch:
        """States of sentences with the concept's own words, or of those beside them."""
        own = len(self.prompts) - self.n_domain
        return self.pool.sample(size, generator, prompts=range(own, len(self.prompts)) if beside else range(own))

    @torch.no_grad()
    def target(
        self, model: EditableModel, batch: TrajectoryBatch, soft: SoftTokens | Tensor | None, form: str, eta: float
    ) -> Tensor:
        """What the student should predict for sentences p about c, ``(B, C, H, W)``.

            concept   e_0 - eta (e(E*(c)) - e_0)              prompt   the same with E*(p)
            rest      e(E*(p)) - (eta + 1) (e(E*(c)) - e_0)           without  e(E*(p without c)) - eta (e(E*(c)) - e_0)

        Args:
            model: the original.
            batch: states of the pool.
            soft: embeddings in the sentences; None for the sentences as they are, whose predictions are in the batch.
            form: one of `TARGETS`.
            eta: strength.
        """
        e_0, e_p = batch.unconditional, batch.conditional
        if form == "concept_free":
            e_p = self._without(model, batch)
            if not eta:
                return e_p
        elif soft is not None and form != "neg_concept":
            e_p = model.predict(batch.z, batch.t, model.encode(self.frames[batch.prompt].tokens, soft=soft)).value
        e_c = e_p if form == "neg_prompt" else model.predict(batch.z, batch.t, self.concept_cond[batch.prompt]).value
        if form == "concept_free":
            return neg_guidance(e_p, e_c, e_0, eta)
        return neg_guidance(e_p, e_c, e_0, eta + 1) if form == "neg_keep_context" else neg_guidance(e_0, e_c, e_0, eta)

    def _without(self, model: EditableModel, batch: TrajectoryBatch) -> Tensor:
        """The original's predictions for the sentences without the concept: asked for a whole run when it is first drawn, then kept."""
        for run in {*batch.run.tolist()} - {*self._rest}:
            whole = self.pool.full_run(run)
            rest, parts = (
                self.context_cond[whole.prompt],
                [slice(i, i + self.pool.batch) for i in range(0, len(whole.t), self.pool.batch)],
            )
            self._rest[run] = torch.cat(
                [model.predict(whole.z[p], whole.t[p], rest[p]).value.to(self.pool.store) for p in parts]
            )
        rows = [self._rest[run][step] for run, step in zip(batch.run.tolist(), batch.step.tolist(), strict=True)]
        return torch.stack(rows).to(batch.z.device)


def align_states(frames: ConceptTokens, states: Tensor, shorter: Tokens, rest: Tensor) -> Tensor:
    """The states of sentences without the concept, laid on the places of those with it: ``(P, L, D)``.

    What a denoiser's attention reads is a set: it draws the same for the same states at other places. So every place takes the state of its
    own token in the shorter sentence. A causal text encoder does not know what follows: before the concept's first token the states stay
    the sentence's own, and what is taken out repeats the place before it. (The padding's state there would come nearer to the
    denoiser's image, but it tells what comes after; asked for it, an encoder learns a mean of all backgrounds.)

    Args:
        frames: the sentences.
        states: the original's of them, ``(P, L, D)``.
        shorter: the sentences without the concept.
        rest: the original's states of these, ``(P, L, D)``.
    """
    result, first, length = states.clone(), frames.concept_mask().int().argmax(1).tolist(), states.shape[1]
    for row, (ids, other) in enumerate(zip(_until_end(frames.tokens), _until_end(shorter), strict=True)):
        blocks = SequenceMatcher(a=ids, b=other, autojunk=False).get_matching_blocks()
        place = {block.a + i: block.b + i for block in blocks for i in range(block.size)}
        place |= {len(ids) + i: len(other) + i for i in range(length - max(len(ids), len(other)))}
        for at in range(first[row], length):
            result[row, at] = rest[row, place[at]] if at in place else result[row, at - 1]
    return result


def _until_end(tokens: Tokens) -> list[list[int]]:
    """Each prompt's tokens before EOS."""
    return [ids[:end] for ids, end in zip(tokens.ids.tolist(), tokens.eos.tolist(), strict=True)]


def _rows(words: Sequence[str], templates: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Every template with every word: by sentence, the word and the sentence without it."""
    return {
        fill_templates([template], [word])[0]: (word, remove_concept(template))
        for word in words
        for template in templates
    }
