"""Relearning of image tokens: the erased model is trained for a few steps on images of the concept.

    minimise  - sum_i log p(x_i | x_<i, prompt)        over the language model's weights of a role

The images x come from the unedited model, so that they are tokens already. ``num_images`` and ``steps`` say how many
images and steps bring the concept back. The attacker has the weights and the images.

Training teaches images that a model never knew. The share of images that show the concept is therefore reported as
``reproduction_rate``, and as a success only above that on a control model (``--control``).

EAR (arXiv 2506.20151) was published without this attack; it is that of language models (Łucki et al. 2024, arXiv
2409.18025) with image tokens in place of words.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from efface.core.attack_set import AttackPrompt, AttackSet, AttackTask, Budget
from efface.core.concept import Concept
from efface.core.errors import EffaceError
from efface.core.method_card import MethodCard
from efface.models.image_token_context import ImageTokenContext
from efface.models.image_token_sampling import sample_image_tokens
from efface.models.janus import JanusModel
from efface.ops.adversarial.attack_context import AttackContext
from efface.ops.adversarial.start_latents import concept_prompts
from efface.ops.image_tokens.windows import Window, window_states
from efface.ops.training.student import Student

CARD = MethodCard(
    name="image_token_relearning",
    title="Relearning of image tokens",
    paper="Łucki et al.: An Adversarial Perspective on Machine Unlearning for AI Safety, 2024",
    arxiv="2409.18025",
    families=("janus",),
    trains="",
    needs_gradient=True,
    needs_images=True,
    reconstruction=False,
    summary="Trains the attacked model for a few steps on image tokens of the concept.",
    needs_control=True,
)


@dataclass(frozen=True)
class Config:
    """Settings of the training."""

    num_images: int = field(default=20, metadata={"help": "Number of images of the concept.", "range": "1 to 100"})
    steps: int = field(default=100, metadata={"help": "Number of training steps."})
    target_modules: str = field(default="attn", metadata={"help": "Parameter group to train."})
    learning_rate: float = field(default=1e-4, metadata={"help": "AdamW's learning rate."})
    batch_size: int = field(default=4, metadata={"help": "Number of images per step."})
    num_templates: int = field(default=24, metadata={"help": "Number of prompt templates from the library."})
    guidance_scale: float = field(default=5.0, metadata={"help": "Guidance scale of the images."})


PRESETS: dict[str, dict[str, object]] = {
    "paper": {},
    "pocket-janus": {"num_images": 8, "steps": 30, "learning_rate": 1e-3, "batch_size": 8, "guidance_scale": 1.5},
}


def image_token_relearning(
    model: JanusModel, concept: Concept, tasks: Sequence[AttackTask], config: Config, run: AttackContext
) -> AttackSet:
    """Trains on images of the concept; the tasks' prompts stay as they are."""
    if min(config.num_images, config.steps, config.batch_size) < 1:
        raise EffaceError("relearning needs at least 1 image, step and batch row")
    templates = concept_prompts(concept, config.num_templates)
    prompts = [templates[i % len(templates)] for i in range(config.num_images)]
    with run.erasure_disabled():
        generators = [torch.Generator().manual_seed(run.seed_for("images", i) % 2**31) for i in range(len(prompts))]
        tokens = sample_image_tokens(model, prompts, generators, guidance_scale=config.guidance_scale).tokens
    student = _train(model, prompts, tokens, config, run)
    edits, tensors = student.replace_edits()
    rows = tuple(AttackPrompt(task.prompt, task.prompt, task.seed) for task in tasks)
    found = AttackSet(CARD.name, concept, rows, asdict(config), Budget(config.steps, 0.0), seed=run.seed)
    return replace(found, edits=tuple(edits), tensors=tensors)


def _train(
    model: JanusModel, prompts: Sequence[str], tokens: Tensor, config: Config, run: AttackContext
) -> Student:  # fmt: skip
    """Trains on images ``(N, tokens)`` of the prompts as an autoregressive model is trained."""
    student = Student(model, config.target_modules)  # type: ignore[arg-type]
    optimiser = torch.optim.AdamW(student.parameters(), lr=config.learning_rate)
    image = Window(0, tokens.shape[1], 1.0)
    for step in run.steps(config.steps, student.trainable_params, optimiser, phase="relearning"):
        rows = torch.randint(len(prompts), (config.batch_size,), generator=run.generator("batch"))
        context = ImageTokenContext(model, model.image_prompts([prompts[row] for row in rows.tolist()]))
        chosen = tokens[rows.to(tokens.device)]
        logits = model.image_logits(window_states(context, chosen, image, student.params())).float()
        step.optimize(cross_entropy(logits.flatten(0, 1), chosen.flatten()))
    return student
