"""Erasures of the tiny model with every kind of edit."""

from __future__ import annotations

import numpy as np
import torch

from efface.core.edits import Edit
from efface.core.erasure import Erasure
from efface.models.stable_diffusion import StableDiffusionModel
from efface.ops.training.student import Student

from .tiny import erasure_of


def seen(model: StableDiffusionModel) -> torch.Tensor:
    """What the model makes of a prompt, edits of the sampler included."""
    cond = model.encode(["a gun"])
    (*_, last) = model.trajectory(cond, steps=3, guidance=2.0, seeds=[5])
    return torch.cat([cond.states.flatten(), last.z.flatten()])


def trained(model: StableDiffusionModel, role: str = "cross_all", step: float = 0.05) -> Student:
    student = Student(model, role)
    gen = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for master in student.parameters():
            master += step * torch.randn(master.shape, generator=gen)
    return student


def every_op(model: StableDiffusionModel) -> Erasure:
    replaced, tensors = trained(model).replace_edit()
    rng = np.random.default_rng(0)
    name = "encoder.layers.1.mlp.fc1.weight"
    more = {"d": rng.normal(size=(2, 32)).astype("f4"), "u": rng.normal(size=(64, 2)).astype("f4")}
    low = Edit("text_encoder", "low_rank", {f"{name}.down": "d", f"{name}.up": "u"}, params={"scale": 0.5})
    state = Edit("text_encoder", "state", {"matrix": "m", "bias": "b"})
    guide = Edit("sampler", "guidance", params={"rule": "negative_prompt", "prompts": ["a gun"]})
    some = {"m": rng.normal(size=(32, 32)).astype("f4"), "b": rng.normal(size=32).astype("f2")}
    return erasure_of(model, [replaced, low, state, guide], {**tensors, **more, **some})
