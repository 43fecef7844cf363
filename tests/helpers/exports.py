"""Erasures of the tiny model to export."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from efface.core.edits import Edit
from efface.core.erasure import Erasure
from efface.models.stable_diffusion import StableDiffusionModel
from efface.models.tensor_names import canonical_paths

from .edits import trained
from .tiny import erasure_of

LAYERS = (
    "attn1.to_q",
    "attn2.to_k",
    "to_out.0",
    "ff.net.0.proj",
    "ff.net.2",
    "proj_in",
    "conv1",
    "conv_shortcut",
    "time_emb_proj",
)
"""Suffixes of UNet layers that a LoRA can edit."""


def replacing_erasure(model: StableDiffusionModel, *roles: str) -> Erasure:
    edits, tensors = [], {}
    for role in roles:
        edit, more = trained(model, role).replace_edit()
        edits.append(edit)
        tensors |= more
    return erasure_of(model, edits, tensors)


def low_rank_erasure(model: StableDiffusionModel, ranks: tuple[int, ...] = (2,), scale: float = 0.5) -> Erasure:
    """Edits linear and convolution layers of every kind in both components; ranks alternate."""
    rng, edits, tensors = np.random.default_rng(0), [], {}
    suffixes = {"unet": LAYERS, "text_encoder": ("self_attn.q_proj", "self_attn.out_proj", "mlp.fc1", "mlp.fc2")}
    for component, suffix in suffixes.items():
        module, roles = model.components[component], {}
        for i, (name, path) in enumerate(canonical_paths(module).items()):
            weight = module.get_parameter(path)
            if name.removesuffix(".weight").endswith(suffix) and weight.ndim > 1:
                rank = ranks[i % len(ranks)]
                shapes = {"down": (rank, weight[0].numel()), "up": (len(weight), rank)}
                for end, shape in shapes.items():
                    roles[f"{name}.{end}"] = f"{component}.{name}.{end}"
                    tensors[f"{component}.{name}.{end}"] = (0.1 * rng.normal(size=shape)).astype("f4")
        edits.append(Edit(component, "low_rank", roles, params={"scale": scale}))
    return erasure_of(model, edits, tensors)


def state_erasure(model: StableDiffusionModel, bias: float = 0.0) -> Erasure:
    rng = np.random.default_rng(0)
    tensors = {"m": (np.eye(32) + 0.1 * rng.normal(size=(32, 32))).astype("f4"), "b": np.full(32, bias, "f4")}
    return erasure_of(model, [Edit("text_encoder", "state", {"matrix": "m", "bias": "b"})], tensors)


def concatenate(first: Erasure, second: Erasure) -> Erasure:
    return replace(first, edits=first.edits + second.edits, tensors={**first.tensors, **second.tensors})


def sample_images(model: StableDiffusionModel) -> torch.Tensor:
    return model.sample(["a gun", "a cat"], seeds=[3, 4], num_inference_steps=3, guidance_scale=2.0)


def save_erasure(erasure: Erasure, folder: Path) -> Path:
    erasure.save(folder)
    return folder
