"""Noise probe ("When Are Concepts Erased From Diffusion Models?", Lu et al., NeurIPS 2025, arXiv 2505.17013).

The erased model samples with more noise than DDIM adds, and so leaves its usual paths:

    sigma  = eta ((1 - a') / (1 - a))^1/2 (1 - a / a')^1/2        a, a': squared signal levels before and after the step
    z'     = a'^1/2 x0 + |1 - a' - sigma^2|^1/2 e + nu sigma n

With eta=0 the step is DDIM's. Difference: the paper keeps the best of 24 pairs of eta and nu by a classifier; here each
attack has one pair, so that no detector chooses. A grid of `efface sweep` holds several.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

import torch
from torch import Tensor

from efface.core.attack_set import AttackPrompt, AttackSet, AttackTask, Budget
from efface.core.concept import Concept
from efface.core.errors import EffaceError
from efface.core.method_card import MethodCard
from efface.models.editable import EditableModel
from efface.ops.adversarial.attack_context import AttackContext
from efface.ops.adversarial.sampler_probe import Levels, noisy_step, sample_latents
from efface.ops.adversarial.start_latents import start_rows, task_batches

CARD = MethodCard(
    name="noise_probe",
    title="Noise probe",
    paper="Lu, Kriplani, Gandikota, Pham, Bau, Hegde, Cohen: When Are Concepts Erased From Diffusion Models?, "
    "NeurIPS 2025",
    arxiv="2505.17013",
    families=("sd1", "sd2", "sdxl"),
    trains="",
    needs_gradient=False,
    needs_images=False,
    reconstruction=False,
    summary="Samples from the attacked model with additional noise in every step.",
)


@dataclass(frozen=True)
class Config:
    """Settings of the probe."""

    eta: float = field(default=1.17, metadata={"help": "Strength of the noise.", "range": "1 to 1.85"})
    nu: float = field(default=1.02, metadata={"help": "Further scale of the noise.", "range": "1 to 1.04"})
    num_inference_steps: int = field(default=50, metadata={"help": "Number of sampling steps."})
    guidance_scale: float = field(default=7.5, metadata={"help": "Guidance scale of the sampler."})


PRESETS: dict[str, dict[str, object]] = {"paper": {}, "pocket": {"num_inference_steps": 20, "guidance_scale": 3.0}}


@torch.no_grad()
def noise_probe(
    model: EditableModel, concept: Concept, tasks: Sequence[AttackTask], config: Config, run: AttackContext
) -> AttackSet:
    """Samples one image for every task."""
    if config.eta < 0 or config.nu < 0:
        raise EffaceError(f"eta and nu must be 0 or more, not {config.eta} and {config.nu}")
    rows, steps = list[AttackPrompt](), config.num_inference_steps
    for batch in task_batches(model, tasks, run, "sampling with noise"):
        generator = run.generator_for(batch)

        def move(z: Tensor, epsilon: Tensor, levels: Levels, generator: torch.Generator = generator) -> Tensor:
            noise = torch.randn(z.shape, generator=generator).to(z)
            return noisy_step(z, epsilon, levels, config.eta, config.nu, noise)

        texts, seeds = [task.prompt for task in batch], [task.seed for task in batch]
        z = sample_latents(model, texts, seeds, steps, config.guidance_scale, move)
        rows += start_rows(batch, None, z, steps)
    return AttackSet("noise_probe", concept, tuple(rows), asdict(config), Budget(steps, 0.0), seed=run.seed)
