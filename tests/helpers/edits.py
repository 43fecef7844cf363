"""Erasures of the tiny model with every kind of edit."""

from __future__ import annotations

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
    """Returns an erasure with a replace, a low-rank, a state and a guidance edit."""
    replace, tensors = trained(model).replace_edit()
    rng = np.random.default_rng(0)
    name = "encoder.layers.1.mlp.fc1.weight"
    low_rank = Edit("text_encoder", "low_rank", {f"{name}.down": "d", f"{name}.up": "u"}, params={"scale": 0.5})
    tensors |= {"d": rng.normal(size=(2, 32)).astype("f4"), "u": rng.normal(size=(64, 2)).astype("f4")}
    state = Edit("text_encoder", "state", {"matrix": "m", "bias": "b"})
    tensors |= {"m": rng.normal(size=(32, 32)).astype("f4"), "b": rng.normal(size=32).astype("f2")}
    guidance = Edit("sampler", "guidance", params={"rule": "negative_prompt", "prompts": ["a gun"]})
    return erasure_of(model, [replace, low_rank, state, guidance], tensors)
