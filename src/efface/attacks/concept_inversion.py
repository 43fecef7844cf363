"""Concept inversion: the concept's token embeddings learned anew on the erased model (CCE: Pham et al., ICLR 2024, arXiv 2308.01508).

    v* = argmin_v  E || e(alpha_t x + sigma_t n, t, E(sentence with v)) - n ||^2          x: images of the concept by the unedited model

textual inversion (Gal et al. 2022, arXiv 2208.01618) with everything frozen but v. One v is learned for all prompts and stands in place
of the concept's tokens in each. It tells whether the model can still draw the concept at all, not whether words lead there.

Where we differ: as many tokens are learned as the concept's name has, from its own embeddings on; images are latents out of the sampler.
Edits of the guidance are not unrolled: they act when the images are drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

import torch

from efface.core.attack_set import AttackPrompt, AttackSet, AttackTask, Budget
from efface.core.concept import Concept, fill_templates
from efface.core.errors import EffaceError
from efface.core.method_card import MethodCard
from efface.core.subsample import evenly_spaced
from efface.models.editable import EditableModel
from efface.models.soft_prompt import SoftTokens
from efface.ops.adversarial.attack_context import AttackContext
from efface.ops.text.concept_tokens import ConceptTokens, locate_concept
from efface.ops.text.soft_prompts import embedding_table, nearest_words, to_soft_prompt
from efface.ops.text.templates import template_library, templates_for_kind
from efface.ops.training.latents import generate_latents

CARD = MethodCard(
    name="concept_inversion",
    title="Concept inversion (CCE)",
    paper="Pham, Marshall, Cohen, Mittal, Hegde: Circumventing Concept Erasure Methods For Text-to-Image Generative Models, ICLR 2024",
    arxiv="2308.01508",
    families=("sd1", "sd2", "sdxl"),
    trains="",
    needs_gradient=True,
    needs_images=True,
    vram={},
    minutes={},
    reconstruction=False,
    summary="Learns the concept's embedding anew from images of it.",
)


@dataclass(frozen=True)
class Config:
    """The inversion's hyper-parameters; the defaults are the published ones (batch 4, accumulated 4 times)."""

    steps: int = field(default=5000, metadata={"help": "training steps"})
    learning_rate: float = field(default=0.08, metadata={"help": "AdamW's learning rate"})
    batch_size: int = field(default=16, metadata={"help": "noised images a step"})
    num_images: int = field(default=25, metadata={"help": "images of the concept that the unedited model draws"})
    num_templates: int = field(default=24, metadata={"help": "sentences of the template library"})
    num_inference_steps: int = field(default=50, metadata={"help": "DDIM steps of an image"})
    guidance_scale: float = field(default=7.5, metadata={"help": "guidance scale of the images"})


PRESETS: dict[str, dict[str, object]] = {
    "paper": {},
    "pocket": {"steps": 200, "learning_rate": 0.01, "num_images": 48, "num_inference_steps": 20, "guidance_scale": 3.0},
}


def concept_inversion(
    model: EditableModel, concept: Concept, tasks: Sequence[AttackTask], config: Config, run: AttackContext
) -> AttackSet:
    """Learns one embedding for the concept and puts it into every task's prompt."""
    if config.steps < 1:
        raise EffaceError("an inversion of no steps learns nothing: set steps to 1 or more")
    sentences = fill_templates(
        evenly_spaced(templates_for_kind(template_library(concept.kind), concept.kind), config.num_templates),
        [concept.name],
    )
    frames = locate_concept(model, sentences, [concept.name] * len(sentences))
    with run.erasure_disabled():
        latents = generate_latents(
            model, sentences, count=config.num_images, steps=config.num_inference_steps, guidance=config.guidance_scale,
            seed=run.seed_for("images"), progress=run.progress,
        )  # fmt: skip
    own = model.tokenize([concept.name])
    vector = embedding_table(model)[own.ids[0, 1 : int(own.eos[0])]].float().clone().requires_grad_(True)
    optimiser = torch.optim.AdamW([vector], lr=config.learning_rate)
    for step in run.steps(config.steps, {"embedding": vector}, optimiser):
        z, t, noise, which = latents.add_noise(config.batch_size, run.generator("batch"))
        cond = model.encode(frames[which].tokens, soft=place_embedding(frames[which], vector))
        step.optimize((model.predict(z, t, cond).epsilon - noise).square().mean())
    prompts = [task.prompt for task in tasks]
    placed = to_soft_prompt(place_embedding(locate_concept(model, prompts, [concept.name] * len(prompts)), vector))
    words = nearest_words(model, vector.detach())
    rows = [
        AttackPrompt(task.prompt, task.prompt, task.seed, soft, words) for task, soft in zip(tasks, placed, strict=True)
    ]
    return AttackSet(
        "concept_inversion", concept, tuple(rows), asdict(config), Budget(config.steps, 0.0), seed=run.seed
    )


def place_embedding(frames: ConceptTokens, vector: torch.Tensor) -> SoftTokens:
    """Embeddings ``(n, D)`` in place of the concept's n tokens."""
    at = torch.zeros_like(frames.context_mask)
    embeddings = vector.new_zeros(*frames.context_mask.shape, vector.shape[1])
    for i in range(len(vector)):
        here = torch.nn.functional.one_hot(frames.concept_positions[:, i], frames.context_mask.shape[1]).bool()
        embeddings, at = torch.where(here[..., None], vector[i], embeddings), at | here
    return SoftTokens(embeddings, at)
