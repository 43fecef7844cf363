"""SLD's published configurations."""

from __future__ import annotations

from typing import Any

import torch

from efface.methods.sld import PRESETS
from efface.ops.targets import sld_guidance


def test_weak_has_the_papers_scale_and_not_that_of_diffusers() -> None:
    """mu = min(1, 200 |e_c - e_s|) where e_c < e_s."""
    weak: Any = PRESETS["weak"]
    e_c, e_0, e_s = torch.tensor([0.0, 0.0, 0.0]), torch.tensor([1.0, 1.0, 1.0]), torch.tensor([0.002, 0.02, -0.002])
    gamma = sld_guidance(e_c, e_0, e_s, weak["guidance_scale"], weak["threshold"])
    torch.testing.assert_close(gamma, torch.tensor([0.4, 1.0, 0.0]) * (e_s - e_0))
