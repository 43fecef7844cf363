"""What a text encoder must keep: the relations between retained prompts, and what the denoiser reads of those that drift most."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity, normalize

from efface.core.concept import Concept
from efface.core.errors import EffaceError, UnknownNameError
from efface.models.editable import EditableModel
from efface.models.protocol import Conditioning, Tokens
from efface.ops.text.concept_prompts import TrajectoryConfig
from efface.ops.training.chunked_loss import prediction_error
from efface.ops.training.student import Student
from efface.ops.training.trajectory_pool import TrajectoryPool

FORMS = ("self", "cross")


class RelationGraphLoss:
    """Relations between retained prompts under the student, held to those under the original (SAGE's global retention).

        self     L = mean_ij ( cos(E(r_i), E(r_j)) - cos(E*(r_i), E*(r_j)) )^2          the paper's words
        cross    L = mean_ij ( cos(E(r_i), E*(r_j)) - cos(E*(r_i), E*(r_j)) )^2

    Cosines within one encoder do not see a rotation of all states, but the denoiser reads absolute coordinates; the cross form sees it.
    A prompt stands for all its states behind BOS, which every prompt shares, taken as one vector.

    Args:
        original: E*'s conditioning of the prompts, ``(R, L, D)``.
        form: ``self`` or ``cross``.

    Raises:
        UnknownName: another form. EffaceError: fewer than two prompts, which have no relations.
    """

    def __init__(self, original: Conditioning, form: str = "cross") -> None:
        if form not in FORMS:
            raise UnknownNameError("graph form", form, FORMS)
        if len(original.states) < 2:
            raise EffaceError(
                f"a graph needs at least 2 retain prompts, not {len(original.states)}: give more with --retain-file"
            )
        self.form = form
        self._nodes = _nodes(original)
        self._relations = self._nodes @ self._nodes.T

    def __call__(self, student: Conditioning) -> Tensor:
        """The loss of the same prompts under the student: a scalar."""
        nodes = _nodes(student)
        relations = nodes @ (nodes if self.form == "self" else self._nodes).T
        return (relations - self._relations).square().mean()


def _nodes(cond: Conditioning) -> Tensor:
    return normalize(cond.states[:, 1:].flatten(1).float(), dim=-1)


@torch.no_grad()
def top_k_drift(student: Conditioning, original: Conditioning, count: int, always: Sequence[int] = ()) -> Tensor:
    """The prompts whose states lie farthest from the original's by the mean cosine over places, and those that always belong: indices.

    Args:
        student: E(r), ``(R, L, D)``.
        original: E*(r).
        count: how many.
        always: prompts that come on top of them.
    """
    likeness = cosine_similarity(student.states.float(), original.states.float(), dim=-1).mean(-1)
    likeness[list(always)] = torch.inf
    chosen = likeness.argsort()[:count].tolist()
    return torch.tensor([*chosen, *always], dtype=torch.long, device=likeness.device)


@dataclass(frozen=True)
class RetainSet:
    """The retained prompts, with what the original makes of them.

    Attributes:
        tokens: of the prompts, ``(R, L)``.
        original: E*'s conditioning of them.
        pool: their trajectories.
        empty: where the empty prompt is among them: its index, or nothing.
    """

    tokens: Tokens
    original: Conditioning
    pool: TrajectoryPool
    empty: tuple[int, ...]

    @classmethod
    def of(
        cls, model: EditableModel, concepts: Sequence[Concept], runs: TrajectoryConfig, *, empty: bool, seed: int
    ) -> RetainSet:
        """The union of the concepts' retain sets, with the empty prompt last where it is wanted."""
        prompts = list(dict.fromkeys(prompt for concept in concepts for prompt in concept.retain_prompts if prompt))
        pinned = (len(prompts),) if empty else ()
        prompts += [""] * empty
        if not prompts:
            raise EffaceError("there is nothing to retain: give retain prompts with --retain-file")
        pool = TrajectoryPool(
            model,
            prompts,
            runs=runs.per_prompt,
            steps=runs.num_inference_steps,
            guidance=runs.guidance_scale,
            seed=seed,
        )
        with torch.no_grad():
            return cls(model.tokenize(prompts), model.encode(prompts), pool, pinned)

    def prediction_loss(
        self, student: Student, now: Conditioning, chosen: Tensor, generator: torch.Generator
    ) -> Tensor:
        """|| e(z_t, t, E(r)) - e(z_t, t, E*(r)) ||^2 over some of the prompts, each at a state of its own trajectories.

        Args:
            student: predicts.
            now: E(r) of all prompts.
            chosen: which of them.
            generator: draws the states.
        """
        state = self.pool.sample_each(chosen.tolist(), generator)
        return prediction_error(student, state.z, state.t, now[chosen], state.conditional)
