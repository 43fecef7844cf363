"""A LoRA's tensors under the names that diffusers and PEFT, or kohya, AUTOMATIC1111 and ComfyUI, look for."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .lora import Factors


def peft_tensors(factors: Sequence[Factors]) -> dict[str, Tensor]:
    """``<component>.<layer>.lora_A.weight`` and ``lora_B``; without an alpha, which for diffusers is a scale of 1.

    The text encoder's layers lie below ``text_model.``, as transformers before 5 has them; newer loaders take that level away.
    """
    found: dict[str, Tensor] = {}
    for f in factors:
        layer = f"{f.component}.{'' if f.component == 'unet' else 'text_model.'}{f.layer}"
        found |= {f"{layer}.lora_A.weight": f.down.contiguous(), f"{layer}.lora_B.weight": f.up.contiguous()}
    return found


def kohya_tensors(factors: Sequence[Factors], two_encoders: bool) -> dict[str, Tensor]:
    """``lora_unet_<layer>.lora_down.weight``, ``lora_up`` and ``alpha``; what is added is alpha / rank times up @ down.

    One alpha for all, the largest rank: diffusers reads alphas that differ only for some of the layers. Where a layer's rank is smaller,
    ``up`` makes up for it.
    """
    first = "lora_te1" if two_encoders else "lora_te"
    prefixes = {"unet": "lora_unet", "text_encoder": f"{first}_text_model", "text_encoder_2": "lora_te2_text_model"}
    alpha = max(len(f.down) for f in factors)
    found: dict[str, Tensor] = {}
    for f in factors:
        layer = f"{prefixes[f.component]}_{f.layer.replace('.', '_')}"
        found[f"{layer}.lora_down.weight"] = f.down.contiguous()
        found[f"{layer}.lora_up.weight"] = (f.up * (len(f.down) / alpha)).contiguous()
        found[f"{layer}.alpha"] = torch.tensor(float(alpha))
    return found
