"""Gates: the strength of an edit as a function of the prompt, computed once per prompt and logged."""

from __future__ import annotations

from collections.abc import Sequence
from weakref import ref

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from efface.models.conditioning import Conditioning
from efface.models.editable import EditableModel

from .gate_settings import SimilaritySettings
from .prompt_reader import PromptReader, is_unconditional

UNKNOWN_TEXT = "(states without a prompt)"
"""Name in the log of states that belong to no text, such as those of a learned embedding."""
Ids = tuple[int, ...] | None


class Gate:
    """A gate on a model, with the strengths that it gave.

    Args:
        model: the model; the gate does not keep it alive.
        reader: finds the tokens of the states that the denoiser reads.
        label: what the gate compares prompts with.

    Attributes:
        log: strength by prompt, in the order in which the prompts came.
    """

    def __init__(self, model: EditableModel, reader: PromptReader, label: str) -> None:
        self._model = ref(model)
        self._reader = reader
        self.label = label
        self.log: dict[str, float] = {}
        self._known: dict[tuple[int, ...], float] = {}
        self._special = set(model.tokenize([""]).ids.flatten().tolist())

    @property
    def model(self) -> EditableModel:
        """The model."""
        model = self._model()
        assert model is not None, "a gate outlived its model"
        return model

    def forget(self) -> None:
        """Clears the strengths by prompt after a change of the model; the log stays."""
        self._known.clear()

    @torch.no_grad()
    def strengths(self, cond: Conditioning) -> Tensor:
        """Returns the strength for each prompt, ``(B,)``; prompts that came before are not computed again."""
        ids = self._reader.ids_of(cond.states)
        values = [None if row is None else self._known.get(row) for row in ids]
        new = [row for row, value in enumerate(values) if value is None]
        if new:
            computed = self.compute(cond[torch.tensor(new, device=cond.states.device)], [ids[row] for row in new])
            for row, value in zip(new, computed.tolist(), strict=True):
                values[row] = value
                self._record(ids[row], value)
        return cond.states.new_tensor(values)

    def row_strengths(self, cond: Conditioning) -> Tensor:
        """Returns the strength for each row of a batch that no sampler announced, ``(N,)``.

        In a diffusers pipeline's batch the first half is the unconditional prompt, which takes the second's strengths.
        """
        half = len(cond.states) // 2
        first, second = cond.states[:half], cond[half:]
        is_even = half > 0 and len(second.states) == half
        if is_even and is_unconditional(first, self._reader.ids_of(first), self._special):
            return self.strengths(second).repeat(2)
        return self.strengths(cond)

    def compute(self, cond: Conditioning, ids: Sequence[Ids]) -> Tensor:
        """Computes the strengths of prompts from their states and token ids, ``(B,)``."""
        raise NotImplementedError

    def _record(self, ids: Ids, value: float) -> None:
        if ids is None:
            self.log[UNKNOWN_TEXT] = value
            return
        self._known[ids] = value
        self.log[self.model.detokenize([i for i in ids if i not in self._special])] = value


class SimilarityGate(Gate):
    """A gate of the kind ``similarity`` (see `SimilaritySettings`)."""

    def __init__(self, model: EditableModel, reader: PromptReader, label: str, settings: SimilaritySettings) -> None:
        super().__init__(model, reader, label)
        self.settings = settings
        self._erased_states: Tensor | None = None
        self._erased_tokens = [set(row) - self._special for row in model.tokenize(settings.phrases).ids.tolist()]

    def forget(self) -> None:
        """Clears the strengths and the phrases' states."""
        super().forget()
        self._erased_states = None

    def compute(self, cond: Conditioning, ids: Sequence[Ids]) -> Tensor:
        """Computes the largest similarity to an erased phrase."""
        if self._erased_states is None:
            self._erased_states = self.model.encode(self.settings.phrases).states.flatten(1).float()
        states, floor = cond.states.flatten(1).float(), self.settings.floor
        cosines = cosine_similarity(states[:, None], self._erased_states[None], dim=-1)
        cosines = ((cosines - floor) / (1 - floor)).clamp(min=0)
        overlaps = [
            [len(set(row or ()) & tokens) / max(1, len(tokens)) for tokens in self._erased_tokens] for row in ids
        ]
        return self.settings.factor * torch.maximum(cosines, torch.tensor(overlaps).to(cosines)).amax(1)
