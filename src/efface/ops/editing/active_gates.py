"""The gates of a model's edits."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any
from weakref import WeakKeyDictionary

from efface.core.errors import EffaceError
from efface.models.editable import EditableModel
from efface.models.pipeline_parts import DENOISERS

from .gate_settings import SimilaritySettings, gate_label, read_gate
from .gates import Gate, SimilarityGate
from .prediction_gate import PredictionChangeGate
from .prompt_reader import PromptReader


class GateSet:
    """The gates of a model's edits."""

    def __init__(self, model: EditableModel) -> None:
        encoders = [part for name, part in model.components.items() if name.startswith("text_encoder")]
        t5 = getattr(model, "t5", None)  # the last encoder of a flow model, whose states the denoiser reads last
        self.reader = PromptReader(
            encoders[-1] if t5 else encoders[0],
            before_last_layer=not t5 and len(encoders) > 1,
            reads_end=t5 is not None,
        )
        self.gates: list[Gate] = []

    def forget(self) -> None:
        """Clears what the gates computed, and reads prompts behind all hooks, after a change of the model."""
        if self.gates:
            self.reader.move_last()
        for gate in self.gates:
            gate.forget()


_SETS: WeakKeyDictionary[EditableModel, GateSet] = WeakKeyDictionary()


def active_gates(model: EditableModel) -> tuple[Gate, ...]:
    """Returns the gates of the model's edits, in the order in which they were applied."""
    return tuple(_SETS[model].gates) if model in _SETS else ()


def forget_strengths(model: EditableModel) -> None:
    """Clears the strengths that a model's gates remember; called when an erasure is applied or removed."""
    if model in _SETS:
        _SETS[model].forget()


def add_gate(model: EditableModel, settings: Mapping[str, Any], undo: ExitStack) -> Gate:
    """Adds a gate to a model until ``undo`` is closed.

    Args:
        model: the model; its denoiser is a UNet, or for a gate of the kind ``similarity`` a transformer.
        settings: an edit's ``gate``.
        undo: receives the removal.

    Raises:
        EffaceError: settings that do not fit, or a model without such a denoiser.
    """
    read = read_gate(settings)
    denoisers = DENOISERS if isinstance(read, SimilaritySettings) else ("unet",)
    if not set(denoisers) & set(model.components):
        raise EffaceError(
            f"the erasure has a gate, which needs a {' or '.join(denoisers)}; {model.name} has "
            f"{', '.join(model.components)}"
        )
    gates = _SETS[model] = _SETS.get(model) or GateSet(model)
    kind: Any = SimilarityGate if isinstance(read, SimilaritySettings) else PredictionChangeGate
    gate: Gate = kind(model, gates.reader, gate_label(settings), read)
    gates.gates.append(gate)
    undo.callback(_remove, gates, gate)
    return gate


def _remove(gates: GateSet, gate: Gate) -> None:
    gates.gates.remove(gate)
    if not gates.gates:
        gates.reader.close()
