"""Fusion of one LoRA for each concept into keys and values."""

from __future__ import annotations

import pytest
import torch
from helpers.tiny import tiny_model

from efface.core.concept import Concept
from efface.ops.closed_form import EmbeddingCache
from efface.ops.closed_form.lora_fusion import fuse_loras
from efface.ops.tensor_conversion import to_torch
from efface.ops.text.erase_prompts import ErasePrompts
from efface.ops.training.lora import LoraAdapter
from efface.ops.training.trajectory_config import TrajectoryConfig


@pytest.mark.parametrize(("names", "distance"), [(["gun"], 0.01), (["gun", "dog"], 0.9)])
@torch.no_grad()
def test_keys_and_values_read_each_concept_as_its_own_lora_does(names: list[str], distance: float) -> None:
    """Exactly for one concept; two share the first token's state, which their LoRAs read differently."""
    model = tiny_model()
    concepts = [Concept(name, templates=("{}",)) for name in names]
    erase_sets = [ErasePrompts.from_concepts(model, [c], 0, TrajectoryConfig(1, 1), seed=0) for c in concepts]
    loras = [LoraAdapter(model, "cross_kv", 2, torch.Generator().manual_seed(i)) for i in range(len(names))]
    for lora in loras:
        for up in lora.up_factors.values():
            up += torch.randn(up.shape, generator=torch.Generator().manual_seed(7))
    fused = fuse_loras(model, concepts, loras, erase_sets, 0.0, 1e-6)
    (edit,) = fused.edits
    name = next(iter(model.parameter_group("cross_kv").parameters))
    down, up = (to_torch(fused.tensors[edit.tensors[f"{name}.{end}"]]).double() for end in ("down", "up"))
    cache = EmbeddingCache.for_model(model)
    for lora, concept in zip(loras, concepts, strict=True):
        states, own = cache.states(concept.name).T, lora.delta()[name].double()
        remaining = (up @ down - own) @ states
        assert float(remaining.norm()) < distance * float((own @ states).norm())
    assert fused.condition > 1
