"""Erasures of the tiny model with every kind of edit."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from efface.core.edits import Edit
from efface.core.erasure import Erasure
from efface.models.stable_diffusion import StableDiffusionModel
from efface.ops.training.student import Student

from .tiny import erasure_of


def model_output(model: StableDiffusionModel) -> torch.Tensor:
    """Returns the states and the last latent of a prompt, which every kind of edit changes."""
    cond = model.encode(["a gun"])
    (*_, last) = model.trajectory(cond, num_inference_steps=3, guidance_scale=2.0, seeds=[5])
    return torch.cat([cond.states.flatten(), last.z.flatten()])


def trained(model: StableDiffusionModel, role: str = "cross_all", step: float = 0.05) -> Student:
    """Returns a student with random changes of this size."""
    student = Student(model, role)
    gen = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for tensor in student.parameters():
            tensor += step * torch.randn(tensor.shape, generator=gen)
    return student


def every_op(model: StableDiffusionModel) -> Erasure:
    """Returns an erasure with a replace, a low-rank, a state, a guidance and a gated module edit."""
    replace, tensors = trained(model).replace_edit()
    rng = np.random.default_rng(0)
    name = "encoder.layers.1.mlp.fc1.weight"
    low_rank = Edit("text_encoder", "low_rank", {f"{name}.down": "d", f"{name}.up": "u"}, params={"scale": 0.5})
    tensors |= {"d": rng.normal(size=(2, 32)).astype("f4"), "u": rng.normal(size=(64, 2)).astype("f4")}
    state = Edit("text_encoder", "state", {"matrix": "m", "bias": "b"})
    tensors |= {"m": rng.normal(size=(32, 32)).astype("f4"), "b": rng.normal(size=32).astype("f2")}
    guidance = Edit("sampler", "guidance", params={"rule": "negative_prompt", "prompts": ["a gun"]})
    inserted, more = membrane_edit(model, ["gun"], seed=4)
    return erasure_of(model, [replace, low_rank, state, guidance, inserted], tensors | more)


def membrane_edit(
    model: StableDiffusionModel,
    phrases: list[str] | None = None,
    *,
    seed: int = 0,
    rank: int = 1,
    role: str = "attn_blocks",
    step: float = 0.3,
    **params: Any,
) -> tuple[Edit, dict[str, np.ndarray]]:
    """Returns random membranes at every matrix of a role; with phrases, gated by the similarity to them."""
    rng = np.random.default_rng(seed)
    group = model.parameter_group(role)
    names, tensors = {}, {}
    for name, weight in group.parameters.items():
        if weight.ndim > 1:
            layer = name.removesuffix(".weight")
            for end, shape in (("down", (rank, *weight.shape[1:])), ("up", (len(weight), rank))):
                names[f"{layer}.{end}"] = f"m{seed}.{layer}.{end}"
                tensors[f"m{seed}.{layer}.{end}"] = step * rng.normal(size=shape).astype("f4")
    gate = {"kind": "similarity", "phrases": phrases} if phrases else {}
    return Edit(group.component, "module", names, gate, {"kind": "membrane", **params}), tensors
