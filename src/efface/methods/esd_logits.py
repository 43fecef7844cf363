"""ESD in logit form, a baseline for autoregressive image models after Gandikota et al. (arXiv 2303.07345).

ESD's target with logits of the next image token in place of the denoiser's prediction:

    L = || l(x_<i, c) - [ l*(x_<i, "") - eta ( l*(x_<i, c) - l*(x_<i, "") ) ] ||^2

over the tokens x of an image that the original generates for the prompt c with guidance. ``""`` is the model's own
unconditional input, in which padding replaces the words. With ``erase_from`` the target starts from the safe prompt,
which is c without the concept, instead of the unconditional logits.

Differences: no paper describes this form; ``retain_weight`` adds the squared change of the states of retain prompts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from efface.core.concept import Concept
from efface.core.erasure import Erasure
from efface.core.method_card import MethodCard
from efface.models.image_token_context import ImageTokenContext
from efface.models.image_token_sampling import sample_image_tokens
from efface.models.janus import JanusModel
from efface.ops.image_tokens.prompt_pairs import PromptPairs
from efface.ops.image_tokens.retained_images import RetainedImages
from efface.ops.image_tokens.windows import Window, image_states, window_states
from efface.ops.targets import negative_guidance
from efface.ops.training.run import Run
from efface.ops.training.student import Student

CARD = MethodCard(
    name="esd_logits",
    title="ESD (logits)",
    paper="Gandikota, Materzynska, Fiotto-Kaufman, Bau: Erasing Concepts from Diffusion Models, ICCV 2023 (loss)",
    arxiv="2303.07345",
    families=("janus",),
    trains="the attention of the language model",
    needs_gradient=True,
    needs_images=False,
    reconstruction=True,
    summary="Trains the logits of image tokens towards the model's own, guided away from the concept.",
)


@dataclass(frozen=True)
class Config:
    """Settings of the baseline; ESD's where they have a meaning here."""

    target_modules: str = field(default="attn", metadata={"help": "Parameter group to change."})
    steps: int = field(default=200, metadata={"help": "Number of training steps.", "range": "60 to 1000"})
    learning_rate: float = field(default=5e-5, metadata={"help": "Learning rate of the optimiser."})
    batch_size: int = field(default=1, metadata={"help": "Number of training samples per step."})
    negative_guidance: float = field(default=1.0, metadata={"help": "Strength eta of the negative guidance."})
    erase_from: bool = field(default=False, metadata={"help": "Start from the prompt without the concept."})
    guidance_scale: float = field(default=5.0, metadata={"help": "Guidance scale of the images."})
    num_templates: int = field(default=50, metadata={"help": "Number of templates from the library."})
    retain_weight: float = field(default=0.0, metadata={"help": "Weight of the retain loss."})


PRESETS: dict[str, dict[str, object]] = {
    "paper": {},
    "pocket-janus": {
        "steps": 60,
        "learning_rate": 5e-4,
        "batch_size": 8,
        "erase_from": True,
        "guidance_scale": 1.5,
        "retain_weight": 50.0,
    },
}


def esd_logits(model: JanusModel, concepts: Sequence[Concept], config: Config, run: Run) -> Erasure:
    """Erases the concepts by negative guidance on logits; several concepts share the steps evenly."""
    pairs = PromptPairs.from_concepts(concepts, config.num_templates)
    retained = RetainedImages.if_weighted(config.retain_weight, model, concepts, config.guidance_scale, run)
    student = Student(model, config.target_modules)  # type: ignore[arg-type]
    optimiser = torch.optim.Adam(student.parameters(), lr=config.learning_rate)
    window = Window(0, model.num_image_tokens, 1.0)
    for step in run.steps(config.steps, student.trainable_params, optimiser):
        unsafe, safe = pairs.batch(step.index, config.batch_size, run.generator("pairs"))
        tokens, target = targets(model, unsafe, safe, config, run.generator("tokens"))
        context = ImageTokenContext(model, model.image_prompts(unsafe))
        logits = model.image_logits(window_states(context, tokens, window, student.params()))
        loss = (logits - target).float().square().mean()
        losses = {"erase": loss.detach()}
        if retained is not None:
            retain = retained.loss(student, config.batch_size, run.generator("retain"))
            loss = loss + config.retain_weight * retain
            losses["retain"] = retain.detach()
        step.optimize(loss, losses)
    return run.erasure(*student.replace_edits())


@torch.no_grad()
def targets(
    model: JanusModel, unsafe: Sequence[str], safe: Sequence[str], config: Config, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Returns the tokens of the unsafe images ``(B, N)`` and the logits that the student shall have, ``(B, N, V)``."""
    found = sample_image_tokens(model, unsafe, [generator] * len(unsafe), guidance_scale=config.guidance_scale)
    conditional, unconditional = model.image_logits(found.conditional), model.image_logits(found.unconditional)
    start = unconditional
    if config.erase_from:
        context = ImageTokenContext(model, model.image_prompts(safe))
        start = model.image_logits(image_states(context, found.tokens))
    return found.tokens, negative_guidance(start, conditional, unconditional, config.negative_guidance)
