"""Names of LoRA tensors in the layouts of diffusers and PEFT, and of kohya, AUTOMATIC1111 and ComfyUI."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from efface.core.erasure import Erasure
from efface.models.flow_layout import original_layer, swap_halves
from efface.models.pipeline_parts import DENOISERS

from .lora import LoraFactors


def peft_tensors(factors: Sequence[LoraFactors]) -> dict[str, Tensor]:
    """Names factors ``<component>.<layer>.lora_A.weight`` and ``lora_B``, without alpha: diffusers then scales by 1.

    Layers of the text encoder are below ``text_model.``, as in transformers 4; newer loaders remove that level.
    """
    tensors: dict[str, Tensor] = {}
    for factor in factors:
        layer = f"{factor.component}.{'' if factor.component in DENOISERS else 'text_model.'}{factor.layer}"
        tensors[f"{layer}.lora_A.weight"] = factor.down.contiguous()
        tensors[f"{layer}.lora_B.weight"] = factor.up.contiguous()
    return tensors


def kohya_tensors(factors: Sequence[LoraFactors], two_text_encoders: bool) -> dict[str, Tensor]:
    """Names factors ``lora_unet_<layer>.lora_down.weight``, ``lora_up.weight`` and ``alpha``.

    Loaders add ``alpha / rank * up @ down`` to the weight. All layers share one alpha, the largest rank, because
    diffusers misreads files in which only some layers have another alpha; ``up`` is scaled to compensate.
    """
    # diffusers' convert_state_dict_to_kohya differs: it names a single text encoder lora_te1, where kohya's own
    # files and AUTOMATIC1111 have lora_te, and it gives every layer an alpha of its own.
    first = "lora_te1" if two_text_encoders else "lora_te"
    prefixes = {"text_encoder": f"{first}_text_model", "text_encoder_2": "lora_te2_text_model"}
    prefixes |= dict.fromkeys(DENOISERS, "lora_unet")
    alpha = max(len(factor.down) for factor in factors)
    tensors: dict[str, Tensor] = {}
    for factor in factors:
        layer = f"{prefixes[factor.component]}_{factor.layer.replace('.', '_')}"
        tensors[f"{layer}.lora_down.weight"] = factor.down.contiguous()
        tensors[f"{layer}.lora_up.weight"] = (factor.up * (len(factor.down) / alpha)).contiguous()
        tensors[f"{layer}.alpha"] = torch.tensor(float(alpha))
    return tensors


def original_factors(factors: Sequence[LoraFactors], transformer: Any) -> list[LoraFactors]:
    """Joins the factors of layers that FLUX's and SD3's original checkpoints hold as one.

    The rows of ``up`` of each part multiply the part's own rows of ``down`` only, so that the change is the same.

    Args:
        factors: of the transformer's layers, and of other components, which are returned unchanged.
        transformer: the transformer.
    """
    by_layer = {factor.layer: factor for factor in factors if factor.component == "transformer"}
    joined = [factor for factor in factors if factor.component != "transformer"]
    for place in dict.fromkeys(original_layer(transformer, layer) for layer in by_layer):
        present = [by_layer[part] for part in place.parts if part in by_layer]
        ranks = iter(torch.block_diag(*(factor.up for factor in present)).split([len(f.up) for f in present]))
        rank = sum(len(factor.down) for factor in present)
        rows = [
            next(ranks) if part in by_layer else torch.zeros(transformer.get_submodule(part).out_features, rank)
            for part in place.parts
        ]
        up = swap_halves(torch.cat(rows)) if place.swaps_halves else torch.cat(rows)
        joined.append(LoraFactors("transformer", place.name, torch.cat([f.down for f in present]), up))
    return joined


def kohya_metadata(erasure: Erasure, rank: int) -> dict[str, str]:
    """Metadata that programs for kohya's format show of a file."""
    return {
        "ss_network_module": "networks.lora",
        "ss_network_dim": str(rank),
        "ss_network_alpha": str(float(rank)),
        "efface_run": erasure.spec.hash,
        "efface_erased": ", ".join(concept.name for concept in erasure.concepts),
        "efface_method": erasure.spec.method,
    }
