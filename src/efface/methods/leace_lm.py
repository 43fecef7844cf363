"""Linear erasure in a language model: LEACE at one layer (Belrose et al., NeurIPS 2023, arXiv 2306.03819).

The states behind a decoder layer, of texts about the concept and of other texts, are labelled 1 and 0. LEACE gives the
least affine map h <- M h + b after which no linear classifier separates the two; the map stays in the model as a
``state`` edit of that layer. Without training: one pass over the texts.

Differences: the paper erases at every layer in turn (concept scrubbing); this is one layer. A linear guard does not
stop a nonlinear reader, such as the layers above. ``amnesic`` > 1 goes beyond the projection and flips the erased
coordinates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from efface.core.concept import Concept
from efface.core.edits import Edit
from efface.core.erasure import Erasure
from efface.core.manifest import LANGUAGE_COMPONENT as COMPONENT
from efface.core.method_card import MethodCard
from efface.models.causal_lm import CausalLM
from efface.ops.language.concept_texts import forget_and_retain_batches
from efface.ops.language.text_batches import TextBatches
from efface.ops.linear_erasure.leace import LeaceEraser
from efface.ops.tensor_conversion import to_blob
from efface.ops.training.run import Run

CARD = MethodCard(
    name="leace_lm",
    title="LEACE (language)",
    paper="Belrose et al.: LEACE: Perfect linear concept erasure in closed form, NeurIPS 2023",
    arxiv="2306.03819",
    families=("causal_lm",),
    trains="the states behind one layer, by an affine map",
    needs_gradient=False,
    needs_images=False,
    reconstruction=False,
    summary="Maps the states behind a layer so that no linear classifier finds the concept in them.",
)


@dataclass(frozen=True)
class Config:
    """Settings of the linear erasure."""

    layer: int = field(default=-1, metadata={"help": "Layer behind which states are mapped; -1: the middle one."})
    amnesic: float = field(default=1.0, metadata={"help": "Share of the concept's coordinates that is removed."})
    num_texts: int = field(default=256, metadata={"help": "Number of texts that the model writes."})
    texts_file: str = field(default="", metadata={"help": "File with one text about the concept per line."})
    num_retain_texts: int = field(
        default=0, metadata={"help": "Number of texts to keep that the model writes beside the retain prompts."}
    )
    max_length: int = field(default=128, metadata={"help": "Number of tokens to which texts are cut."})


PRESETS: dict[str, dict[str, object]] = {"paper": {}, "pocket-lm": {"layer": 1, "amnesic": 2.0, "max_length": 40}}


def leace_lm(model: CausalLM, concepts: Sequence[Concept], config: Config, run: Run) -> Erasure:
    """Erases the concepts from the states behind one layer."""
    layer = model.num_layers // 2 if config.layer == -1 else config.layer
    model.layer(layer)
    forget, retain = forget_and_retain_batches(model, concepts, config, run)
    groups = [_states(model, batches, layer) for batches in (retain, forget)]
    labels = torch.cat([torch.full((len(group),), i) for i, group in enumerate(groups)])
    eraser = LeaceEraser(shrinkage=True).fit(torch.cat(groups), labels)
    left, right, center = (tensor.float() for tensor in eraser.fitted())
    projection = config.amnesic * (left @ right)
    tensors = {"matrix": torch.eye(len(center)) - projection, "bias": projection @ center}
    names = {role: f"{COMPONENT}.{layer}.{role}" for role in tensors}
    edit = Edit(COMPONENT, "state", names, params={"layer": layer})
    return run.erasure([edit], {names[role]: to_blob(tensor) for role, tensor in tensors.items()})


@torch.no_grad()
def _states(model: CausalLM, batches: TextBatches, layer: int) -> Tensor:
    """Returns the states of all tokens but the first of each text, float32, ``(N, D)``."""
    states = []
    for start in range(0, len(batches.rows), 64):
        tokens = model.pad(batches.rows[start : start + 64])
        mask = tokens.mask.bool().clone()
        mask[:, 0] = False
        states.append(model.hidden_states(tokens, [layer])[layer][mask].float().cpu())
    return torch.cat(states)
