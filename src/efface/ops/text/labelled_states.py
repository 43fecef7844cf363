"""Text encoder states with labels: the data of a linear eraser, and the edit that applies it.

The edit H <- H M^T + b acts on every position of every prompt, which has two consequences for the data. The states of
other prompts must be among the vectors. And a concept's states must be compared with states of the same position kind,
a concept's token with other words' tokens and its EOS with other prompts' EOS: otherwise the eraser removes in part the
position kind, which every prompt has.
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

_BOS, _CONCEPT, _WORD, _EOS, _PADDING = range(5)

POSITIONS = {
    "all": (_CONCEPT, _WORD, _EOS, _PADDING),
    "subject": (_CONCEPT,),
    "eos": (_EOS,),
    "tail": (_EOS, _PADDING),
    "subject+tail": (_CONCEPT, _EOS, _PADDING),
}
"""Sets of position kinds by name: 0 BOS, 1 the concept's tokens, 2 other words' tokens, 3 EOS, 4 padding."""

OFFSETS = ("others", "mean", "zero")


@dataclass(frozen=True)
class LabelledStates:
    """States of prompts that name a concept, and of prompts that do not.

    Attributes:
        states: ``(N, D)`` in float64.
        labels: 0 for prompts without a concept, else one label for each phrase and position kind, ``(N,)``.
        position_kinds: position kind of each state, ``(N,)``.
    """

    states: Tensor
    labels: Tensor
    position_kinds: Tensor

    @classmethod
    @torch.no_grad()
    def from_concepts(
        cls, model: EditableModel, concepts: Sequence[Concept], *, num_templates: int, positions: str
    ) -> LabelledStates:
        """Encodes prompts with the concepts' names and synonyms, the retain prompts and the empty prompt.

        Without retain prompts, the prompts without the concept take their place.

        Args:
            model: the original model.
            concepts: the concepts. Only states from the first concept token on count as the concept's: a causal encoder
                does not know of the concept before it.
            num_templates: templates of the library in addition to each concept's own.
            positions: name of a set of position kinds, one of `POSITIONS`.

        Raises:
            UnknownNameError: an unknown set of position kinds.
        """
        if positions not in POSITIONS:
            raise UnknownNameError("positions", positions, POSITIONS)
        prompts_of, other_prompts = _prompts(concepts, num_templates)
        parts = [_other_states(model, other_prompts)]
        for index, (phrase, prompts) in enumerate(prompts_of.items()):
            first_label = 1 + index * len(POSITIONS["all"])
            parts.append(_concept_states(model, phrase, prompts, POSITIONS[positions], first_label))
        states, labels, kinds = (torch.cat(column) for column in zip(*parts, strict=True))
        _, labels = labels.unique(return_inverse=True)
        return cls(states.double(), labels, kinds)

    def offset(self, kind: str = "others") -> Tensor:
        """Returns the state that the edit leaves unchanged, ``(D,)``.

        A linear classifier's accuracy does not depend on it, but the shift of other prompts does.

        Args:
            kind: ``others``: mean state of the prompts without a concept; ``mean``: mean of all; ``zero``.

        Raises:
            UnknownNameError: an unknown kind.
        """
        if kind not in OFFSETS:
            raise UnknownNameError("offset", kind, OFFSETS)
        if kind == "zero":
            return torch.zeros_like(self.states[0])
        return (self.states if kind == "mean" else self.states[self.labels == 0]).mean(0)

    def centered(self) -> Tensor:
        """Subtracts from each state the mean of its position kind over prompts without a concept, ``(N, D)``."""
        rows = [self.states[self._is_other(kind)] for kind in range(5)]
        means = torch.stack([row.mean(0) if len(row) else self.offset() for row in rows])
        return self.states - means[self.position_kinds]

    def mean_difference_targets(self) -> Tensor:
        """Computes targets Z ``(N, K)`` for K mean differences between concept states and other states.

        Column k is such that cov(states, Z_k) is proportional to the mean difference between the states of label k and
        the states of the same position kind in prompts without a concept.
        """
        columns = []
        for label in range(1, int(self.labels.max()) + 1):
            concept = self.labels == label
            others = self._is_other(int(self.position_kinds[concept][0]))
            others = others if others.any() else self.labels == 0
            columns.append(concept.double() / concept.sum() - others.double() / others.sum())
        return torch.stack(columns, 1)

    def projection(self, eraser: LinearEraser, whitening: float) -> Tensor:
        """Fits an eraser to the centered states and their labels and returns its matrix, ``(D, D)``.

        Args:
            eraser: the eraser to fit.
            whitening: w > 0 fits it to states of covariance I, which makes its orthogonal projection P an oblique one,
                R^-1 P R with R^-2 = (1 - w) S + w tr(S)/D I, where S is the covariance; 0 disables it.
        """
        if not whitening:
            return eraser.fit(self.centered(), self.labels).matrix
        values, vectors = torch.linalg.eigh(self.states.T.cov(correction=0))
        root = ((1 - whitening) * values.clamp(min=0) + whitening * values.mean()).sqrt()
        whiten = (vectors / root) @ vectors.T
        unwhiten = (vectors * root) @ vectors.T
        return unwhiten @ eraser.fit(self.centered() @ whiten, self.labels).matrix @ whiten

    def _is_other(self, kind: int) -> Tensor:
        """Marks states of a position kind in prompts without a concept; words stand in for concept tokens."""
        return (self.labels == 0) & (self.position_kinds == (_WORD if kind == _CONCEPT else kind))


def state_edit(matrix: Tensor, offset: Tensor) -> tuple[Edit, dict[str, TensorBlob]]:
    """Builds the edit H <- M (H - c) + c of the text encoder's states, for M ``(D, D)`` and an offset c ``(D,)``."""
    bias = offset - matrix @ offset
    tensors = {"state.matrix": to_blob(matrix.float()), "state.bias": to_blob(bias.float())}
    return Edit("text_encoder", "state", {"matrix": "state.matrix", "bias": "state.bias"}), tensors


def _prompts(concepts: Sequence[Concept], num_templates: int) -> tuple[dict[str, list[str]], list[str]]:
    """Returns the prompts that name each concept phrase, and the prompts without a concept."""
    prompts_of: dict[str, list[str]] = {}
    retained: list[str] = []
    without_concept: list[str] = []
    for concept in concepts:
        library = evenly_spaced(concept.template_library or template_library(concept.kind), num_templates)
        templates = list(dict.fromkeys([*concept.templates, *library]))
        for phrase in concept.words:
            named = concept_templates(replace(concept, name=phrase, synonyms=()), templates)
            prompts_of.setdefault(phrase, []).extend(named)
        retained += concept.retain_prompts
        without_concept += map(remove_concept, templates)
    return prompts_of, list(dict.fromkeys([*(retained or without_concept), ""]))


def _position_kinds(tokens: Tokens) -> Tensor:
    """Returns the position kinds of prompts without a concept, ``(B, L)``."""
    position = torch.arange(tokens.ids.shape[1], device=tokens.ids.device)[None]
    end = tokens.eos[:, None]
    kinds = torch.where(position < end, _WORD, torch.where(position == end, _EOS, _PADDING))
    kinds[:, 0] = _BOS
    return kinds


def _other_states(model: EditableModel, prompts: Sequence[str]) -> tuple[Tensor, Tensor, Tensor]:
    """Returns states, labels and position kinds of all positions of prompts without a concept."""
    tokens = model.tokenize(prompts)
    kinds = _position_kinds(tokens)
    states = model.encode(tokens).states
    return states.flatten(0, 1), torch.zeros_like(kinds).flatten(), kinds.flatten()


def _concept_states(
    model: EditableModel, phrase: str, prompts: Sequence[str], wanted_kinds: Sequence[int], first_label: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Returns states, labels and position kinds from the first concept token on."""
    prompt_tokens = locate_concept(model, prompts, [phrase] * len(prompts))
    kinds, concept_mask = _position_kinds(prompt_tokens.tokens), prompt_tokens.concept_mask()
    kinds[concept_mask] = _CONCEPT
    from_concept_on = concept_mask.int().cumsum(1) > 0
    selected = from_concept_on & torch.isin(kinds, torch.tensor(wanted_kinds, device=kinds.device))
    states = model.encode(prompt_tokens.tokens).states[selected]
    return states, first_label + kinds[selected] - 1, kinds[selected]
