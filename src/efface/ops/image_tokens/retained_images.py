"""Images of retain prompts: tokens and states of the original model, from which a student must not drift."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from efface.core.concept import Concept, distinct_retain_prompts
from efface.core.errors import EffaceError
from efface.models.image_token_context import ImageTokenContext
from efface.models.image_token_sampling import sample_image_tokens
from efface.models.janus import JanusModel
from efface.ops.training.run import Run
from efface.ops.training.student import Student

from .windows import Window, window_states

_PROMPTS_AT_ONCE = 16


@dataclass(frozen=True)
class RetainedImages:
    """The original's images of retain prompts.

    Attributes:
        prompts: the retain prompts.
        tokens: image tokens, ``(P, N)``.
        states: the original's states for the prompts, ``(P, N, D)``.
    """

    prompts: tuple[str, ...]
    tokens: Tensor
    states: Tensor

    @classmethod
    def if_weighted(
        cls, weight: float, model: JanusModel, concepts: Sequence[Concept], guidance_scale: float, run: Run
    ) -> RetainedImages | None:
        """Generates one image of every retain prompt; None if the retain loss has no weight.

        Raises:
            EffaceError: a weight, and no retain prompts.
        """
        if not weight:
            return None
        prompts = distinct_retain_prompts(concepts)
        if not prompts:
            raise EffaceError("retain_weight needs retain prompts: give --retain-file, or set retain_weight to 0")
        found = []
        for start in range(0, len(prompts), _PROMPTS_AT_ONCE):
            part = prompts[start : start + _PROMPTS_AT_ONCE]
            generators = [torch.Generator().manual_seed(run.seed_for("retain", prompt) % 2**31) for prompt in part]
            found.append(sample_image_tokens(model, part, generators, guidance_scale=guidance_scale))
        tokens, states = (torch.cat(rows) for rows in zip(*((f.tokens, f.conditional) for f in found), strict=True))
        return cls(prompts, tokens, states)

    def loss(self, student: Student, size: int, generator: torch.Generator) -> Tensor:
        """Returns the mean squared change of the states of ``size`` random images, a scalar."""
        rows = torch.randint(len(self.prompts), (size,), generator=generator)
        model: JanusModel = student.model  # type: ignore[assignment]
        context = ImageTokenContext(model, model.image_prompts([self.prompts[row] for row in rows.tolist()]))
        rows = rows.to(self.tokens.device)
        window = Window(0, self.tokens.shape[1], 1.0)
        states = window_states(context, self.tokens[rows], window, student.params())
        return (states - self.states[rows]).float().square().mean()
