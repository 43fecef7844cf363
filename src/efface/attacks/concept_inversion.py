"""Concept inversion (CCE: Pham et al., ICLR 2024, arXiv 2308.01508): learns the concept's token embeddings again.

    v* = argmin_v  E || e(alpha_t x + sigma_t n, t, E(prompt with v)) - n ||^2

The images x show the concept and come from the unedited model, or from ``image_folder``. This is textual inversion (Gal
et al. 2022, arXiv 2208.01618): only v is trained, and the erased model is frozen. One v serves all prompts, in place of
the concept's tokens. The attack shows whether the model can still generate the concept at all, not whether words can
request it. With ``setting=black_box``, v is learned on the unedited model and then tried on the erased one
(M-ErasureBench).

Differences from the paper: v has as many tokens as the concept's name and starts from their embeddings; generated
images are latents of the sampler, which are never decoded. An erasure by guidance rules has no effect on the inversion,
because training runs single passes; it acts when the attack's images are generated. On SD3 and FLUX, v are T5's
embeddings, and CLIP reads the prompt as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field

import torch
from torch import Tensor

from efface.core.attack_set import AttackPrompt, AttackSet, AttackTask, Budget
from efface.core.concept import Concept, fill_templates
from efface.core.errors import EffaceError
from efface.core.method_card import MethodCard
from efface.core.subsample import evenly_spaced
from efface.models.editable import EditableModel
from efface.models.soft_prompt import SoftTokens
from efface.ops.adversarial.attack_context import AttackContext
from efface.ops.adversarial.attack_images import training_images
from efface.ops.text.concept_tokens import ConceptTokens, locate_concept
from efface.ops.text.soft_prompts import embedding_table, nearest_words, to_soft_prompts
from efface.ops.text.templates import template_library, templates_for_kind
from efface.ops.training.latents import Latents

CARD = MethodCard(
    name="concept_inversion",
    title="Concept inversion (CCE)",
    paper="Pham, Marshall, Cohen, Mittal, Hegde: Circumventing Concept Erasure Methods For Text-to-Image Generative "
    "Models, ICLR 2024",
    arxiv="2308.01508",
    families=("sd1", "sd2", "sdxl", "sd3", "flux"),
    trains="",
    needs_gradient=True,
    needs_images=True,
    reconstruction=False,
    summary="Learns new token embeddings for the concept from images of it.",
)


@dataclass(frozen=True)
class Config:
    """Settings of the inversion; the defaults are the published ones (batch size 4, accumulated over 4 batches)."""

    steps: int = field(default=5000, metadata={"help": "Number of training steps."})
    learning_rate: float = field(default=0.08, metadata={"help": "AdamW's learning rate."})
    batch_size: int = field(default=16, metadata={"help": "Number of noised images per step."})
    num_images: int = field(
        default=25, metadata={"help": "Number of images of the concept; of a folder, the first by name."}
    )
    num_templates: int = field(default=24, metadata={"help": "Number of prompt templates from the library."})
    num_inference_steps: int = field(default=50, metadata={"help": "Number of sampling steps per image."})
    guidance_scale: float = field(default=7.5, metadata={"help": "Guidance scale of the images."})
    image_folder: str = field(default="", metadata={"help": "Folder of images of the concept; empty: generate them."})
    setting: str = field(
        default="white_box",
        metadata={"help": "white_box (learned on the attacked model) or black_box (learned on the unedited model)."},
    )


PRESETS: dict[str, dict[str, object]] = {
    "paper": {},
    "flux": {"guidance_scale": 3.5},
    "pocket": {"steps": 200, "learning_rate": 0.01, "num_images": 48, "num_inference_steps": 20, "guidance_scale": 3.0},
    "pocket-flow": {
        "steps": 200, "learning_rate": 0.01, "num_images": 48, "num_inference_steps": 20, "guidance_scale": 3.5,
    },
}  # fmt: skip


def concept_inversion(
    model: EditableModel, concept: Concept, tasks: Sequence[AttackTask], config: Config, run: AttackContext
) -> AttackSet:
    """Learns embeddings for the concept and puts them into every task's prompt."""
    if config.steps < 1:
        raise EffaceError(f"the inversion needs at least 1 training step, not {config.steps}: increase steps")
    if config.setting not in ("white_box", "black_box"):
        raise EffaceError(f"setting must be white_box or black_box, not {config.setting!r}")
    templates = templates_for_kind(template_library(concept.kind), concept.kind)
    training_prompts = fill_templates(evenly_spaced(templates, config.num_templates), [concept.name])
    training_tokens = locate_concept(model, training_prompts, [concept.name] * len(training_prompts))
    # a fixed label: another one changes the seeds
    latents = training_images(model, concept, training_prompts, config.num_images, config, run, "pictures")
    with run.erasure_disabled() if config.setting == "black_box" else nullcontext():
        vector = _learn(model, concept, training_tokens, latents, config, run)
    prompts = [task.prompt for task in tasks]
    prompt_tokens = locate_concept(model, prompts, [concept.name] * len(prompts))
    words = nearest_words(model, vector.detach())
    rows = [
        AttackPrompt(task.prompt, task.prompt, task.seed, soft, words)
        for task, soft in zip(tasks, to_soft_prompts(place_embedding(prompt_tokens, vector)), strict=True)
    ]
    budget = Budget(config.steps, 0.0)
    return AttackSet("concept_inversion", concept, tuple(rows), asdict(config), budget, seed=run.seed)


def _learn(
    model: EditableModel,
    concept: Concept,
    training_tokens: ConceptTokens,
    latents: Latents,
    config: Config,
    run: AttackContext,
) -> Tensor:
    """Learns the embeddings ``(n, D)`` from those of the concept's name."""
    name_tokens = model.tokenize([concept.name])
    name_ids = name_tokens.ids[0, name_tokens.start : int(name_tokens.eos[0])]
    vector = embedding_table(model)[name_ids].float().clone().requires_grad_(True)
    optimiser = torch.optim.AdamW([vector], lr=config.learning_rate)
    for step in run.steps(config.steps, {"embedding": vector}, optimiser):
        z, t, noise, prompt_index = latents.noised_batch(config.batch_size, run.generator("batch"))
        batch = training_tokens[prompt_index]
        cond = model.encode(batch.tokens, soft=place_embedding(batch, vector))
        step.optimize((model.predict(z, t, cond).epsilon - noise).square().mean())
    return vector


def place_embedding(prompt_tokens: ConceptTokens, vector: torch.Tensor) -> SoftTokens:
    """Puts embeddings ``(n, D)`` in place of the concept's n tokens."""
    mask = torch.zeros_like(prompt_tokens.context_mask)
    embeddings = vector.new_zeros(*mask.shape, vector.shape[1])
    for i in range(len(vector)):
        position = torch.nn.functional.one_hot(prompt_tokens.concept_positions[:, i], mask.shape[1]).bool()
        embeddings = torch.where(position[..., None], vector[i], embeddings)
        mask = mask | position
    return SoftTokens(embeddings, mask)
