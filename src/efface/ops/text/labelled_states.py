"""The text encoder's states as labelled vectors: what a linear eraser of a concept learns from, and the edit that it becomes.

The edit H <- H M^T + b acts on every place of every prompt, so that two things decide what else it changes. What other prompts look like
must be among the vectors. And a concept's states must be set beside states of the same kind of place, its word beside other words, its
end of text beside other ends of text: otherwise what is erased is in part the kind of place, which every prompt has.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from efface.core.concept import Concept
from efface.core.edits import Edit
from efface.core.errors import UnknownNameError
from efface.core.subsample import evenly_spaced
from efface.core.tensors import TensorBlob
from efface.models.editable import EditableModel
from efface.models.protocol import Tokens
from efface.ops.linear_erasure.base import LinearEraser
from efface.ops.tensor_conversion import to_blob

from .concept_tokens import locate_concept
from .templates import concept_templates, remove_concept, template_library

PLACES = {"all": (1, 2, 3, 4), "subject": (1,), "eos": (3,), "tail": (3, 4), "subject+tail": (1, 3, 4)}
"""Kinds of place by name. The kinds: 0 BOS, 1 the concept's tokens, 2 those of the sentence behind them, 3 EOS, 4 padding."""

CENTRES = ("others", "mean", "zero")

_BOS, _OWN, _WORD, _EOS, _PAD = range(5)


@dataclass(frozen=True)
class LabelledStates:
    """States of sentences about concepts, and of others.

    Attributes:
        x: the states, ``(N, D)``, in float64.
        label: 0 for other sentences, else one number for each word and kind of place, ``(N,)``.
        kind: of place, ``(N,)``; other sentences have words (2) only, no concept's.
    """

    x: Tensor
    label: Tensor
    position_kind: Tensor

    @classmethod
    @torch.no_grad()
    def of(cls, model: EditableModel, concepts: Sequence[Concept], *, templates: int, places: str) -> LabelledStates:
        """The states of the concepts' words in sentences, and of their retain prompts and the empty prompt.

        Without retain prompts, the others are the same sentences without the concept.

        Args:
            model: the original.
            concepts: whose words; a state behind a word, which a causal encoder lets know of it, counts as the word's.
            templates: sentences of the library beside each concept's own.
            places: one of `PLACES`.
        """
        if places not in PLACES:
            raise UnknownNameError("places", places, PLACES)
        about, others = _sentences(concepts, templates)
        parts = [_other(model, others)]
        for index, (word, prompts) in enumerate(about.items()):
            parts.append(_named(model, word, prompts, PLACES[places], first=1 + index * len(PLACES["all"])))
        x, label, kind = (torch.cat(column) for column in zip(*parts, strict=True))
        _, label = label.unique(return_inverse=True)
        return cls(x.double(), label, kind)

    def offset(self, of: str = "others") -> Tensor:
        """The state that stays where it is, ``(D,)``: the mean of the others, of all (``mean``), or ``zero``.

        What a linear classifier can tell does not depend on it; how far other prompts move does.
        """
        if of not in CENTRES:
            raise UnknownNameError("centre", of, CENTRES)
        return (
            torch.zeros_like(self.x[0])
            if of == "zero"
            else (self.x if of == "mean" else self.x[self.label == 0]).mean(0)
        )

    def _means(self) -> Tensor:
        """The other sentences' mean by kind of place, ``(5, D)``; a concept's word stands beside other words."""
        rows = [self.x[(self.label == 0) & (self.position_kind == (_WORD if k == _OWN else k))] for k in range(5)]
        return torch.stack([part.mean(0) if len(part) else self.offset() for part in rows])

    def centered(self) -> Tensor:
        """The states less the other sentences' mean at that kind of place, ``(N, D)``: what the kind says is not the concept's."""
        return self.x - self._means()[self.position_kind]

    def mean_difference_targets(self) -> Tensor:
        """Z ``(N, K)`` with cov(x, z) proportional to the K mean differences between a word's states and others at that kind of place."""
        columns = []
        for label in range(1, int(self.label.max()) + 1):
            own = self.label == label
            kind = int(self.position_kind[own][0])
            beside = (self.label == 0) & (self.position_kind == (_WORD if kind == _OWN else kind))
            beside = beside if beside.any() else self.label == 0
            columns.append(own.double() / own.sum() - beside.double() / beside.sum())
        return torch.stack(columns, 1)

    def projection(self, eraser: LinearEraser, whiten: float) -> Tensor:
        """What an eraser of classes makes of the labels: M ``(D, D)``.

        Args:
            eraser: is fitted.
            whiten: w > 0 fits it where all states have the covariance I, which makes its orthogonal projection P an oblique one,
                R^-1 P R with R^-2 = (1 - w) S + w tr(S)/D I; 0 fits it on the states as they are.
        """
        if not whiten:
            return eraser.fit(self.centered(), self.label).matrix
        values, vectors = torch.linalg.eigh(self.x.T.cov(correction=0))
        root = ((1 - whiten) * values.clamp(min=0) + whiten * values.mean()).sqrt()
        R, back = (vectors / root) @ vectors.T, (vectors * root) @ vectors.T
        return back @ eraser.fit(self.centered() @ R, self.label).matrix @ R


def _sentences(concepts: Sequence[Concept], templates: int) -> tuple[dict[str, list[str]], list[str]]:
    """By word the sentences that name it, and the other sentences."""
    about: dict[str, list[str]] = {}
    others: dict[str, None] = {}
    bare: dict[str, None] = {}
    for concept in concepts:
        chosen = list(dict.fromkeys([*concept.templates, *evenly_spaced(template_library(concept.kind), templates)]))
        for word in concept.words:
            about.setdefault(word, []).extend(concept_templates(replace(concept, name=word, synonyms=()), chosen))
        others |= dict.fromkeys(concept.retain_prompts)
        bare |= dict.fromkeys(remove_concept(template) for template in chosen)
    return about, list((others or bare) | {"": None})


def _kinds(tokens: Tokens) -> Tensor:
    """Kinds of place of sentences without a concept, ``(B, L)``."""
    at, end = torch.arange(tokens.ids.shape[1], device=tokens.ids.device)[None], tokens.eos[:, None]
    kinds = torch.where(at < end, _WORD, torch.where(at == end, _EOS, _PAD))
    kinds[:, 0] = _BOS
    return kinds


def _other(model: EditableModel, prompts: Sequence[str]) -> tuple[Tensor, Tensor, Tensor]:
    tokens = model.tokenize(prompts)
    kinds = _kinds(tokens)
    states = model.encode(tokens).states
    return states.flatten(0, 1), torch.zeros_like(kinds).flatten(), kinds.flatten()


def _named(
    model: EditableModel, word: str, prompts: Sequence[str], wanted: Sequence[int], first: int
) -> tuple[Tensor, Tensor, Tensor]:
    frames = locate_concept(model, prompts, [word] * len(prompts))
    kinds, own = _kinds(frames.tokens), frames.concept_mask()
    kinds[own] = _OWN
    behind = own.int().cumsum(1) > 0
    chosen = behind & torch.isin(kinds, torch.tensor(wanted, device=kinds.device))
    states = model.encode(frames.tokens).states[chosen]
    return states, first + kinds[chosen] - 1, kinds[chosen]


def state_edit(matrix: Tensor, centre: Tensor) -> tuple[Edit, dict[str, TensorBlob]]:
    """H <- M (H - c) + c on the text encoder's states, for M ``(D, D)`` and c ``(D,)``."""
    tensors = {"state.matrix": to_blob(matrix.float()), "state.bias": to_blob((centre - matrix @ centre).float())}
    return Edit("text_encoder", "state", {"matrix": "state.matrix", "bias": "state.bias"}), tensors
