"""Completion probe ("When Are Concepts Erased From Diffusion Models?", Lu et al., NeurIPS 2025, arXiv 2505.17013).

The unedited model runs the first ``steps_before`` of the sampler's steps for a prompt of the concept, and the erased
model the others. Does it complete the image? With equal models the result is that of one run.

Some steps suffice to draw an object that any model refines. The share of images that show the concept is therefore
reported as ``reproduction_rate``, and as a success only above that on a control model (``--control``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from itertools import islice

import torch

from efface.core.attack_set import AttackPrompt, AttackSet, AttackTask, Budget
from efface.core.concept import Concept
from efface.core.errors import EffaceError
from efface.core.method_card import MethodCard
from efface.models.editable import EditableModel
from efface.ops.adversarial.attack_context import AttackContext
from efface.ops.adversarial.start_latents import start_rows, task_batches

CARD = MethodCard(
    name="completion_probe",
    title="Completion probe",
    paper="Lu, Kriplani, Gandikota, Pham, Bau, Hegde, Cohen: When Are Concepts Erased From Diffusion Models?, "
    "NeurIPS 2025",
    arxiv="2505.17013",
    families=("sd1", "sd2", "sdxl"),
    trains="",
    needs_gradient=False,
    needs_images=True,
    reconstruction=False,
    summary="The unedited model begins images of the concept, and the attacked one completes them.",
    needs_control=True,
)


@dataclass(frozen=True)
class Config:
    """Settings of the probe."""

    steps_before: int = field(
        default=5, metadata={"help": "Number of steps by the unedited model.", "range": "1 to 20"}
    )
    num_inference_steps: int = field(
        default=50, metadata={"help": "Number of sampling steps; the benchmark's sampler must have as many."}
    )
    guidance_scale: float = field(default=7.5, metadata={"help": "Guidance scale of the first steps."})


PRESETS: dict[str, dict[str, object]] = {
    "paper": {},
    "pocket": {"steps_before": 6, "num_inference_steps": 20, "guidance_scale": 3.0},
}


@torch.no_grad()
def completion_probe(
    model: EditableModel, concept: Concept, tasks: Sequence[AttackTask], config: Config, run: AttackContext
) -> AttackSet:
    """Runs the first steps of every task's image."""
    before, steps = config.steps_before, config.num_inference_steps
    if not 1 <= before < steps:
        raise EffaceError(f"steps_before must be 1 to {steps - 1}, not {before}: the attacked model takes the others")
    rows = list[AttackPrompt]()
    for batch in task_batches(model, tasks, run, "beginning images"):
        with run.erasure_disabled():
            points = model.trajectory(
                model.encode([task.prompt for task in batch]),
                num_inference_steps=steps,
                guidance_scale=config.guidance_scale,
                seeds=[task.seed for task in batch],
            )
            z = next(islice(points, before, None)).z
        rows += start_rows(batch, None, z, before)
    return AttackSet("completion_probe", concept, tuple(rows), asdict(config), Budget(before, 0.0), seed=run.seed)
