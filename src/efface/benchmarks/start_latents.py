"""Sampling that starts from an attack's latents instead of the noise of a seed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from efface.core.attack_set import StartLatent
from efface.core.errors import EffaceError
from efface.models.editable import EditableModel
from efface.models.image_checks import check_finite
from efface.ops.tensor_conversion import to_torch


@dataclass(frozen=True)
class _Replacement:
    """Replaces the latents of a step by given ones (a `LatentEdit`)."""

    by_seeds: Callable[[Sequence[int]], Tensor]
    step: int

    def change_latent(self, z: Tensor, index: int, num_inference_steps: int, t: float, seeds: Sequence[int]) -> Tensor:
        """Returns the given latents at their step."""
        return self.by_seeds(seeds).to(z) if index == self.step else z


@contextmanager
def started_from(model: EditableModel, starts: Sequence[StartLatent], seeds: Sequence[int]) -> Iterator[None]:
    """Lets `sample` start from latents for the body of a ``with``; an erasure's own edits of latents come after.

    Args:
        model: the model.
        starts: a latent for each image; all after the same number of steps.
        seeds: the images' seeds, in the same order; several images may share one.

    Raises:
        EffaceError: latents of another shape, or after different numbers of steps.
    """
    latents, position = stacked(model, starts), 0

    def rows(batch: Sequence[int]) -> Tensor:
        nonlocal position
        if list(seeds[position : position + len(batch)]) != list(batch):
            raise EffaceError("the images are not generated in the order of their latents")
        position += len(batch)
        return latents[position - len(batch) : position]

    edit = _Replacement(rows, starts[0].step)
    model.latent_edits.insert(0, edit)
    try:
        yield
    finally:
        model.latent_edits.remove(edit)


def stacked(model: EditableModel, starts: Sequence[StartLatent]) -> Tensor:
    """Returns the latents ``(B, C, h, w)`` in float32 on the CPU.

    Raises:
        EffaceError: they do not fit the model, or have different numbers of steps behind them.
    """
    noise = getattr(model, "initial_noise", None)
    expected = None if noise is None else tuple(noise([0]).shape[1:])
    for start in starts:
        if start.latent.shape != expected:
            raise EffaceError(
                f"a latent of shape {start.latent.shape} does not fit {model.name}, which starts from {expected}: "
                "replay the attack set on the model that it was found on"
            )
        if start.step != starts[0].step:
            raise EffaceError("the latents of one batch have different numbers of steps behind them")
    return torch.stack([to_torch(start.latent) for start in starts])


@torch.no_grad()
def decoded(model: EditableModel, starts: Sequence[StartLatent]) -> Tensor:
    """Decodes latents that have all steps behind them; images ``(B, 3, H, W)`` in [0, 1] on the CPU."""
    dtype = next(model.components["vae"].parameters()).dtype
    return check_finite(model.decode(stacked(model, starts).to(model.device, dtype)).float().cpu())
