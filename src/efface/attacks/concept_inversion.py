"""Concept inversion: the concept's token embeddings learned anew on the erased model (CCE: Pham et al., ICLR 2024, arXiv 2308.01508).

    v* = argmin_v  E || e(alpha_t x + sigma_t n, t, E(sentence with v)) - n ||^2          x: pictures of the concept by the unedited model

textual inversion (Gal et al. 2022, arXiv 2208.01618) with everything frozen but v. One v is learned for all prompts and stands in place
of the concept's tokens in each. It tells whether the model can still draw the concept at all, not whether words lead there.

Where we differ: as many tokens are learned as the concept's name has, from its own embeddings on; pictures are latents out of the sampler.
Edits of the guidance are not unrolled: they act when the pictures are drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

import torch

from efface.core.attack_set import AttackPrompt, AttackSet, Budget, Task
from efface.core.concept import Concept, fill
from efface.core.errors import EffaceError
from efface.core.method_card import Card
from efface.core.subsample import spread
from efface.models.editable import Editable
from efface.models.soft_prompt import Soft
from efface.ops.adversarial.attack_context import AttackRun
from efface.ops.text.concept_tokens import Framed, framed
from efface.ops.text.soft_prompts import embedding_table, nearest_words, saved
from efface.ops.text.templates import fitting, library
from efface.ops.training.latents import draw_latents

CARD = Card(
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
    summary="Learns the concept's embedding anew from pictures of it.",
)


@dataclass(frozen=True)
class Config:
    """The inversion's hyper-parameters; the defaults are the published ones (batch 4, accumulated 4 times)."""

    steps: int = field(default=5000, metadata={"help": "training steps"})
    lr: float = field(default=0.08, metadata={"help": "AdamW's learning rate"})
    batch: int = field(default=16, metadata={"help": "noised pictures a step"})
    pictures: int = field(default=25, metadata={"help": "pictures of the concept that the unedited model draws"})
    sentences: int = field(default=24, metadata={"help": "sentences of the template library"})
    sampler_steps: int = field(default=50, metadata={"help": "DDIM steps of a picture"})
    guidance: float = field(default=7.5, metadata={"help": "guidance scale of the pictures"})


PRESETS: dict[str, dict[str, object]] = {
    "paper": {},
    "pocket": {"steps": 200, "lr": 0.01, "pictures": 48, "sampler_steps": 20, "guidance": 3.0},
}


def concept_inversion(
    model: Editable, concept: Concept, tasks: Sequence[Task], config: Config, run: AttackRun
) -> AttackSet:
    """Learns one embedding for the concept and puts it into every task's prompt."""
    if config.steps < 1:
        raise EffaceError("an inversion of no steps learns nothing: set steps to 1 or more")
    sentences = fill(spread(fitting(library(concept.kind), concept.kind), config.sentences), [concept.name])
    frames = framed(model, sentences, [concept.name] * len(sentences))
    with run.unerased():
        latents = draw_latents(
            model, sentences, count=config.pictures, steps=config.sampler_steps, guidance=config.guidance,
            seed=run.seed_for("pictures"), progress=run.progress,
        )  # fmt: skip
    own = model.tokenize([concept.name])
    vector = embedding_table(model)[own.ids[0, 1 : int(own.eos[0])]].float().clone().requires_grad_(True)
    optimiser = torch.optim.AdamW([vector], lr=config.lr)
    for step in run.steps(config.steps, {"embedding": vector}, optimiser):
        z, t, noise, which = latents.noised(config.batch, run.generator("batch"))
        cond = model.encode(frames[which].tokens, soft=instead(frames[which], vector))
        step.minimise((model.predict(z, t, cond).epsilon - noise).square().mean())
    prompts = [task.prompt for task in tasks]
    placed = saved(instead(framed(model, prompts, [concept.name] * len(prompts)), vector))
    words = nearest_words(model, vector.detach())
    rows = [
        AttackPrompt(task.prompt, task.prompt, task.seed, soft, words) for task, soft in zip(tasks, placed, strict=True)
    ]
    return AttackSet(
        "concept_inversion", concept, tuple(rows), asdict(config), Budget(config.steps, 0.0), seed=run.seed
    )


def instead(frames: Framed, vector: torch.Tensor) -> Soft:
    """Embeddings ``(n, D)`` in place of the concept's n tokens."""
    at = torch.zeros_like(frames.free)
    embeddings = vector.new_zeros(*frames.free.shape, vector.shape[1])
    for i in range(len(vector)):
        here = torch.nn.functional.one_hot(frames.subject[:, i], frames.free.shape[1]).bool()
        embeddings, at = torch.where(here[..., None], vector[i], embeddings), at | here
    return Soft(embeddings, at)
