"""The losses: flow matching, and distillation of guidance into the guidance embedding.

Flow matching (Lipman et al. 2023, arXiv 2210.02747) with logit-normal noise levels (Esser et al. 2024, arXiv
2403.03206). Guidance distillation follows Meng et al. 2023 (arXiv 2210.03142): the teacher is the frozen average model
with guidance scale w, and the student receives w.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pocket_flow.dataset import Dataset
from pocket_flow.model import FlowModel

DROP_CAPTION = 0.1
"""Share of captions that are empty for both text encoders."""
DROP_CLIP_CAPTION = 0.3
"""Share of captions that are empty for CLIP only, so that the T5 states have to carry the caption."""
UNIFORM_LEVELS = 0.2
"""Share of uniformly sampled noise levels, which cover both ends."""
GUIDANCE_SCALES = (1.0, 5.0)


def sample_noise_levels(batch: int, device: torch.device) -> Tensor:
    """Samples noise levels ``(B,)`` in [0, 1], logit-normal except for a share of uniform ones."""
    uniform = torch.rand(batch, device=device)
    is_uniform = torch.rand(batch, device=device) < UNIFORM_LEVELS
    return torch.where(is_uniform, uniform, torch.randn(batch, device=device).sigmoid())


def drop_captions(dataset: Dataset, ids: Tensor, pooled: Tensor) -> tuple[Tensor, Tensor]:
    """Replaces a share of the captions by the empty prompt, for both text encoders or for CLIP only."""
    draws = torch.rand(len(ids), device=ids.device)
    ids = torch.where((draws < DROP_CAPTION)[:, None], dataset.empty_ids, ids)
    return ids, torch.where((draws < DROP_CAPTION + DROP_CLIP_CAPTION)[:, None], dataset.empty_pooled, pooled)


def add_noise(clean: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Returns a point between ``clean`` and noise, its noise level, and the velocity there."""
    noise, sigma = torch.randn_like(clean), sample_noise_levels(len(clean), clean.device)
    share = sigma[:, None, None]
    return (1 - share) * clean + share * noise, sigma, noise - clean


def flow_loss(model: FlowModel, dataset: Dataset, batch: int) -> Tensor:
    """Returns the mean squared error of the predicted velocity; the guidance embedding receives 1."""
    clean, ids, pooled = dataset.sample(batch)
    ids, pooled = drop_captions(dataset, ids, pooled)
    x, sigma, velocity = add_noise(clean)
    predicted = model(model.encode(ids), pooled, x, sigma, torch.ones_like(sigma))
    return (predicted.float() - velocity).square().mean()


def guidance_loss(student: FlowModel, teacher: FlowModel, dataset: Dataset, batch: int) -> Tensor:
    """Returns the error of the student, which receives the scale, relative to the teacher guided with that scale."""
    clean, ids, pooled = dataset.sample(batch)
    ids, pooled = drop_captions(dataset, ids, pooled)
    x, sigma, _ = add_noise(clean)
    scale = torch.empty_like(sigma).uniform_(*GUIDANCE_SCALES)
    with torch.no_grad():
        states = teacher.encode(torch.cat([ids, dataset.empty_ids]))
        both_states = torch.cat([states[:-1], states[-1:].expand(batch, -1, -1)])
        both_pooled = torch.cat([pooled, dataset.empty_pooled.expand(batch, -1)])
        ones = torch.ones(2 * batch, device=x.device)
        both = teacher(both_states, both_pooled, x.repeat(2, 1, 1), sigma.repeat(2), ones)
        conditional, unconditional = both.float().chunk(2)
        target = unconditional + scale[:, None, None] * (conditional - unconditional)
    return (student(states[:-1], pooled, x, sigma, scale).float() - target).square().mean()
