"""Fusion of one LoRA for each concept into the cross-attention keys and values of the original model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from efface.core.concept import Concept
from efface.core.edits import Edit
from efface.core.tensors import TensorBlob
from efface.models.editable import EditableModel
from efface.models.float32_weights import float32_group
from efface.ops.text.erase_prompts import ErasePrompts
from efface.ops.training.lora import LoraAdapter

from .embedding_cache import EmbeddingCache
from .fusion import Fusion
from .gram import mean_caption_gram
from .low_rank import LowRankUpdate
from .problem import Preserve
from .to_edits import smallest_exact_edits


@dataclass(frozen=True)
class FusedLoras:
    """The fused change.

    Attributes:
        edits: one edit or two of the denoiser.
        tensors: the edits' tensors.
        condition: condition number of the system.
    """

    edits: list[Edit]
    tensors: dict[str, TensorBlob]
    condition: float


def fuse_loras(
    model: EditableModel,
    concepts: Sequence[Concept],
    loras: Sequence[LoraAdapter],
    erase_sets: Sequence[ErasePrompts],
    preserve_weight: float,
    ridge: float,
) -> FusedLoras:
    """Solves for keys and values that read each concept's prompts as its own LoRA does (`Fusion`).

    Args:
        model: the original model.
        concepts: the concepts; their retain prompts and the empty prompt are read as the original does.
        loras: of the role ``cross_kv``, one for each concept.
        erase_sets: the prompts of each concept.
        preserve_weight: weight of the retain prompts' mean Gram matrix.
        ridge: weight of the weights' change.

    Raises:
        EffaceError: the system is singular: a ridge above 0 makes it regular.
    """
    cache, layers = EmbeddingCache.for_model(model), float32_group(model, "cross_kv")
    states = [torch.cat([cache.states(prompt) for prompt in erase.prompts]).T for erase in erase_sets]
    retain_prompts = [prompt for concept in concepts for prompt in concept.retain_prompts]
    gram = mean_caption_gram(model, cache, retain_prompts)
    fusion = Fusion(LowRankUpdate.zero(len(gram)), states, Preserve(gram=gram * preserve_weight), ridge)
    deltas, condition = fusion.solve(layers.parameters, [lora.factors() for lora in loras])
    return FusedLoras(*smallest_exact_edits(deltas, layers), condition)
