"""The gate of UnGuide: how much an adapter changes the prediction for a prompt (arXiv 2508.05755)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from efface.models.batch_rows import ALL_ON, BatchRows, adapters_off, announced_rows
from efface.models.conditioning import Conditioning
from efface.models.editable import EditableModel

from .gate_settings import PredictionChangeSettings
from .gates import Gate, Ids
from .prompt_reader import PromptReader


class PredictionChangeGate(Gate):
    """A gate of the kind ``prediction_change`` (see `PredictionChangeSettings`)."""

    def __init__(
        self, model: EditableModel, reader: PromptReader, label: str, settings: PredictionChangeSettings
    ) -> None:
        super().__init__(model, reader, label)
        self.settings = settings

        self._limit: Tensor | None = None

    def forget(self) -> None:
        """Clears the strengths and the change for the unconditional prompt."""
        super().forget()
        self._limit = None

    def compute(self, cond: Conditioning, ids: Sequence[Ids]) -> Tensor:
        """Compares the change for each prompt with the change for the unconditional one."""
        if self._limit is None:
            change = prediction_change(self.model, self.model.unconditional(1), self.settings)
            self._limit = self.settings.threshold * change
        changes = [prediction_change(self.model, cond[i : i + 1], self.settings) for i in range(len(ids))]
        return (torch.stack(changes) > self._limit).float()


@torch.no_grad()
def prediction_change(model: EditableModel, cond: Conditioning, settings: PredictionChangeSettings) -> Tensor:
    """Computes D(p), the mean norm of an adapter's change of the prediction for one prompt, a scalar.

    Args:
        model: the model with the adapter.
        cond: conditioning of the prompt, one row.
        settings: the adapter and the latents to compare at.
    """
    off = frozenset({settings.adapter})
    denoiser: Any = model.components["unet"]
    seeds = range(settings.seed, settings.seed + settings.repeats)
    rows = cond[torch.zeros(settings.repeats, dtype=torch.long, device=cond.states.device)]
    guidance_edits, latent_edits = model.guidance_edits, model.latent_edits
    model.guidance_edits, model.latent_edits = [], []
    try:
        with adapters_off(denoiser, off):
            points = model.trajectory(
                rows, num_inference_steps=settings.num_inference_steps, guidance_scale=settings.guidance_scale,
                seeds=seeds,
            )  # fmt: skip
            point = next(islice(points, settings.num_steps, None))
    finally:
        model.guidance_edits, model.latent_edits = guidance_edits, latent_edits
    with announced_rows(denoiser, BatchRows(rows, (ALL_ON, off))):
        z = torch.cat([point.z, point.z])
        with_adapter, without = model.predict(z, point.t, Conditioning.cat([rows, rows])).value.chunk(2)
    return (with_adapter - without).flatten(1).norm(dim=1).mean()
