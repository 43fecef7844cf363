"""Quantisation: the erased model's weights are rounded to a few bits, which can bring knowledge back.

Every matrix of the decoder layers is rounded to the nearest of 2^bits levels, evenly spaced between the extremes of
each row. An erasure by small changes of weights may be rounded away (Zhang et al. 2024, arXiv 2410.16454).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field

import torch

from efface.core.attack_set import AttackPrompt, AttackSet
from efface.core.concept import Concept
from efface.core.errors import EffaceError
from efface.core.method_card import MethodCard
from efface.core.question import Question
from efface.models.causal_lm import CausalLM
from efface.ops.editing.written_weights import written_weights
from efface.ops.training.run import Run

CARD = MethodCard(
    name="quantisation",
    title="Quantisation",
    paper="Zhang et al.: Catastrophic Failure of LLM Unlearning via Quantization, ICLR 2025",
    arxiv="2410.16454",
    families=("causal_lm",),
    trains="",
    needs_gradient=False,
    needs_images=False,
    reconstruction=False,
    summary="Rounds the erased model's weights to a few bits.",
)


@dataclass(frozen=True)
class Config:
    """Settings of the attack."""

    bits: int = field(default=4, metadata={"help": "Number of bits of a weight.", "range": "2 to 8"})


PRESETS: dict[str, dict[str, object]] = {"paper": {}, "int8": {"bits": 8}}


def quantisation(model: CausalLM, concept: Concept, tasks: Sequence[Question], config: Config, run: Run) -> AttackSet:
    """Returns the questions unchanged."""
    if not 2 <= config.bits <= 8:
        raise EffaceError(f"bits is {config.bits}: give a number from 2 to 8 (--set bits=4)")
    rows = tuple(AttackPrompt(task.prompt, task.prompt, 0) for task in tasks)
    return AttackSet("quantisation", concept, rows, asdict(config), seed=run.seed)


@contextmanager
def changed_model(
    model: CausalLM, concept: Concept, tasks: Sequence[Question], config: Config, run: Run
) -> Iterator[None]:
    """Rounds all matrices of the decoder layers; the weights come back afterwards."""
    group = model.parameter_group("attn_mlp")
    matrices = {name: weight for name, weight in group.parameters.items() if weight.ndim == 2}
    rounded = {name: round_to_levels(weight, config.bits) for name, weight in matrices.items()}
    with written_weights(model, group.as_params(rounded)):
        yield


@torch.no_grad()
def round_to_levels(weight: torch.Tensor, bits: int) -> torch.Tensor:
    """Rounds each row of a matrix to the nearest of 2^bits levels between its least and its largest value."""
    values = weight.float()
    low, high = values.amin(1, keepdim=True), values.amax(1, keepdim=True)
    step = ((high - low) / (2**bits - 1)).clamp(min=torch.finfo(torch.float32).tiny)
    return (((values - low) / step).round() * step + low).to(weight.dtype)
