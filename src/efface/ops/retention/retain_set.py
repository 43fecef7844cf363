"""Retain prompts with their trajectories, and the choice of those that drift most during training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from efface.core.concept import Concept
from efface.core.errors import EffaceError
from efface.models.editable import EditableModel
from efface.models.protocol import Conditioning, Tokens
from efface.ops.training.chunked_loss import prediction_error
from efface.ops.training.run import Run
from efface.ops.training.trained_model import TrainedModel
from efface.ops.training.trajectory_config import TrajectoryConfig
from efface.ops.training.trajectory_pool import TrajectoryPool


@dataclass(frozen=True)
class RetainSet:
    """Retain prompts with the original model's outputs for them.

    Attributes:
        tokens: tokens of the R prompts, ``(R, L)``.
        original: the original's conditioning of the prompts.
        pool: trajectories of the prompts.
        empty_prompt_index: index of the empty prompt, if it is among the prompts; otherwise ``()``.
    """

    tokens: Tokens
    original: Conditioning
    pool: TrajectoryPool
    empty_prompt_index: tuple[int, ...]

    @classmethod
    @torch.no_grad()
    def from_concepts(
        cls,
        model: EditableModel,
        concepts: Sequence[Concept],
        trajectories: TrajectoryConfig,
        *,
        with_empty_prompt: bool = True,
        seed: int,
    ) -> RetainSet:
        """Collects the retain prompts of all concepts.

        Args:
            model: the original model.
            concepts: the concepts.
            trajectories: settings of the trajectory pool.
            with_empty_prompt: whether to add the empty prompt, as the last one.
            seed: seed of the trajectory pool.

        Raises:
            EffaceError: no prompts.
        """
        prompts = list(dict.fromkeys(prompt for concept in concepts for prompt in concept.retain_prompts if prompt))
        empty_prompt_index = (len(prompts),) if with_empty_prompt else ()
        prompts += [""] * with_empty_prompt
        if not prompts:
            raise EffaceError("there is nothing to retain: give retain prompts with --retain-file")
        pool = trajectories.build_pool(model, prompts, seed)
        return cls(model.tokenize(prompts), model.encode(prompts), pool, empty_prompt_index)

    @classmethod
    def if_weighted(
        cls, weight: float, model: EditableModel, concepts: Sequence[Concept], trajectories: TrajectoryConfig, run: Run
    ) -> RetainSet | None:
        """Collects the retain prompts with one trajectory each, for a retain loss of this weight; None for weight 0."""
        if not weight:
            return None
        seed, settings = run.seed_for("retained"), replace(trajectories, per_prompt=1)
        return cls.from_concepts(model, concepts, settings, with_empty_prompt=False, seed=seed)

    def prediction_loss(
        self, student: TrainedModel, student_cond: Conditioning, prompt_index: Tensor, generator: torch.Generator
    ) -> Tensor:
        """Computes || e(z_t, t, E(r)) - e(z_t, t, E*(r)) ||^2 over some prompts r, a scalar.

        Args:
            student: makes the predictions.
            student_cond: the student's conditioning of all R prompts.
            prompt_index: indices of the prompts.
            generator: samples one training tuple of each prompt; on the CPU.
        """
        batch = self.pool.sample_each(prompt_index.tolist(), generator)
        return prediction_error(student, batch.z, batch.t, student_cond[prompt_index], batch.conditional)

    def random_loss(self, student: TrainedModel, batch_size: int, generator: torch.Generator) -> Tensor:
        """Computes `prediction_loss` over ``batch_size`` prompts, drawn with replacement by a CPU generator."""
        cond = student.encode(self.tokens) if student.trains_text else self.original
        chosen = torch.randint(len(cond.states), (batch_size,), generator=generator)
        return self.prediction_loss(student, cond, chosen, generator)


@torch.no_grad()
def top_k_drift(
    student: Conditioning, original: Conditioning, count: int, always_included: Sequence[int] = ()
) -> Tensor:
    """Returns the indices of the prompts with the smallest mean cosine between student and original states.

    Args:
        student: the student's conditioning of R prompts, ``(R, L, D)``.
        original: the original's conditioning of the same prompts.
        count: number of prompts.
        always_included: indices of prompts to add to these.
    """
    cosines = cosine_similarity(student.states.float(), original.states.float(), dim=-1).mean(-1)
    cosines[list(always_included)] = torch.inf
    drifted = cosines.argsort()[:count].tolist()
    return torch.tensor([*drifted, *always_included], dtype=torch.long, device=cosines.device)
