"""EraseAnything (Gao, Lu et al., ICML 2025, arXiv 2412.20413), for flow transformers.

A LoRA of the text tokens' queries and keys in joint attention is trained in two alternating levels, on images of the
concept that are noised to z_t. c is a prompt that names the concept, b the same prompt without it. Even steps erase:

    L = || v(z_t, t, c) - [ v*(z_t, t, b) - eta ( v*(z_t, t, c) - v*(z_t, t, b) ) ] ||^2
        + lambda sum_q sum_k || A[heads, q, k] ||_2

with the velocity v of the student and v* of the original, eta = ``negative_guidance``, lambda = ``attention_weight``,
and A the attention of all tokens q to the concept's tokens k in the last block where text and image attend jointly.
Odd steps preserve:

    L = w_p || v(z_t, t, c) - (noise - x0) ||^2
        + w_c log [ exp(u.s / tau) / ( exp(u.s / tau) + sum_i exp(u_i.s / tau) ) ]

with w_p = ``preserve_weight``, w_c = ``contrast_weight`` and tau = ``temperature``. The second term is InfoNCE with
the sign reversed. u is the first head's attention to the concept's tokens, with norm 1; s belongs to another prompt of
the concept, and the u_i to irrelevant prompts.

Differences: the released code finds the concept's tokens with keyword heuristics, and uses one prompt's positions for
all; here they are those of the name or synonym in each prompt's T5 tokens (SD3: CLIP's, too). Images come from the
original; as many prompts train as there are images. Synonyms and retain prompts replace WordNet's and a language
model's words; every token of a retain prompt counts. One pass at z_t gives velocity and attention, where the code
samples whole trajectories, and s and u_i are the original's at the same z_t. In the code v* is the student itself,
without gradient (preset ``released``). ``preserve_source="retain"`` moves w_p's term to images of retain prompts,
``preserve_target="original"`` to the original's velocities: a small model forgets more than a large one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Generator, Tensor

from efface.core.concept import Concept
from efface.core.erasure import Erasure
from efface.core.errors import UnknownNameError
from efface.core.method_card import MethodCard
from efface.models.editable import EditableModel
from efface.ops.attention.joint_attention import JointAttention, attention_norm, joint_attention, unit_column
from efface.ops.contrastive_loss import reverse_contrast
from efface.ops.targets import negative_guidance
from efface.ops.text.concept_images import ConceptImages
from efface.ops.training.latents import Latents, generate_latents
from efface.ops.training.lora import TrainedLora, trained_lora
from efface.ops.training.run import Run
from efface.ops.training.schedule import set_learning_rate

CARD = MethodCard(
    name="erase_anything",
    title="EraseAnything",
    paper="Gao, Lu et al.: EraseAnything: Enabling Concept Erasure in Rectified Flow Transformers, ICML 2025",
    arxiv="2412.20413",
    families=("sd3", "flux"),
    trains="a LoRA of the text tokens' queries and keys in joint attention",
    needs_gradient=True,
    needs_images=True,
    reconstruction=False,
    summary="Trains a LoRA that alternates between erasing the concept with its attention and preserving the rest.",
    quantized=True,
)
CHOICES = {
    "teacher": ("original", "student"),
    "preserve_source": ("concept", "retain"),
    "preserve_target": ("images", "original"),
}


@dataclass(frozen=True)
class Config:
    """EraseAnything's hyper-parameters; the defaults are those of the released code."""

    target_modules: str = field(
        default="text_stream_qk",
        metadata={"help": "Parameter group to change.", "range": "text_stream_qk, text_stream, attn_all"},
    )
    rank: int = field(default=8, metadata={"help": "Rank of the LoRA."})
    steps: int = field(default=200, metadata={"help": "Number of training steps.", "range": "200 to 600"})
    learning_rate: float = field(default=1e-3, metadata={"help": "Learning rate of the optimiser."})
    schedule: str = field(default="constant", metadata={"help": "Learning-rate schedule: constant or cosine."})
    weight_decay: float = field(default=1e-5, metadata={"help": "Weight decay of AdamW."})
    batch_size: int = field(default=1, metadata={"help": "Number of training samples per step."})
    num_images: int = field(default=8, metadata={"help": "Number of images that the original model generates."})
    num_inference_steps: int = field(default=28, metadata={"help": "Number of steps of the sampler."})
    guidance_scale: float = field(default=3.5, metadata={"help": "Guidance scale of the images."})
    num_templates: int = field(
        default=0, metadata={"help": "Number of templates from the library.", "range": "0 to 66"}
    )
    negative_guidance: float = field(default=1.0, metadata={"help": "Strength eta of the negative guidance."})
    teacher: str = field(
        default="original", metadata={"help": "Model that predicts the target: original, or student (stop-gradient)."}
    )
    erase_weight: float = field(default=1.0, metadata={"help": "Weight of the erasing loss."})
    attention_weight: float = field(default=0.001, metadata={"help": "Weight lambda of the concept's attention."})
    preserve_weight: float = field(default=0.1, metadata={"help": "Weight of the velocity loss that preserves."})
    preserve_source: str = field(
        default="concept", metadata={"help": "Images of this loss: of the concept, or of the retain prompts (retain)."}
    )
    preserve_target: str = field(
        default="images", metadata={"help": "Target of this loss: the images' velocities, or the original's."}
    )
    contrast_weight: float = field(default=0.1, metadata={"help": "Weight of the reverse self-contrastive loss."})
    num_irrelevant: int = field(default=3, metadata={"help": "Number of irrelevant prompts of each sample."})
    temperature: float = field(default=0.07, metadata={"help": "Temperature tau of the contrastive loss."})


PRESETS: dict[str, dict[str, object]] = {
    "paper": {},
    "released": {"teacher": "student"},
    "sd3": {"guidance_scale": 7.0},
    "pocket-flow": {
        "target_modules": "attn_all",
        "rank": 16,
        "steps": 120,
        "learning_rate": 2e-3,
        "schedule": "cosine",
        "batch_size": 8,
        "num_images": 48,
        "num_inference_steps": 20,
        "num_templates": 40,
        "attention_weight": 1e-4,
        "preserve_weight": 5.0,
        "preserve_source": "retain",
        "preserve_target": "original",
        "contrast_weight": 0.01,
        "num_irrelevant": 1,
    },
}


def erase_anything(model: EditableModel, concepts: Sequence[Concept], config: Config, run: Run) -> Erasure:
    """Alternates between erasing and preserving; several concepts share the steps evenly."""
    for name, choices in CHOICES.items():
        if getattr(config, name) not in choices:
            raise UnknownNameError(name, getattr(config, name), choices)
    from_retain, generate = config.preserve_source == "retain", partial(_generate_images, model, config, run)
    data = ConceptImages(model, concepts, config.num_templates, config.num_images, from_retain, generate)
    lora = trained_lora(model, config.target_modules, config.rank, run.generator("adapter"))
    with lora as adapter, joint_attention(model) as attention:
        parameters = adapter.trainable_params
        optimiser = torch.optim.AdamW(parameters.values(), lr=config.learning_rate, weight_decay=config.weight_decay)
        for step in run.steps(config.steps, parameters, optimiser):
            set_learning_rate(optimiser, config.learning_rate, config.schedule, step.index, config.steps)
            level = _erasing_losses if step.index % 2 == 0 else _preserving_losses
            losses = level(adapter, attention, data, config, run.generator("batch"))
            loss = torch.stack([getattr(config, f"{name}_weight") * term for name, term in losses.items()]).sum()
            step.optimize(loss, {name: term.detach() for name, term in losses.items()})
        edit, tensors = adapter.to_edit()
        return run.erasure([edit], tensors)


def _erasing_losses(
    adapter: TrainedLora, attention: JointAttention, data: ConceptImages, config: Config, generator: Generator
) -> dict[str, Tensor]:
    """Computes the terms of the erasing level on images of the concept."""
    z, t, _, index = data.images.flow_batch(config.batch_size, generator)
    concept, teacher = data.prompts[index], adapter if config.teacher == "student" else adapter.model
    with torch.no_grad():
        v_c, v_b = (teacher.predict(z, t, cond).value for cond in (concept.cond, data.anchor_cond[index]))
    v = adapter.predict(z, t, concept.cond).value
    erase = (v - negative_guidance(v_b, v_c, v_b, config.negative_guidance)).square().mean()
    return {"erase": erase, "attention": attention_norm(attention.columns(concept.mask))}


def _preserving_losses(
    adapter: TrainedLora, attention: JointAttention, data: ConceptImages, config: Config, generator: Generator
) -> dict[str, Tensor]:
    """Computes the terms of the preserving level: contrast on images of the concept, velocity on the chosen images."""
    z, t, velocity, index = data.images.flow_batch(config.batch_size, generator)
    concept, others = data.prompts[index], data.contrasts(index, config.num_irrelevant, generator)
    copies = 1 + config.num_irrelevant
    with torch.no_grad():
        adapter.model.predict(z.repeat(copies, 1, 1, 1), t.repeat(copies), others.cond)
    s, *irrelevant = unit_column(attention.columns(others.mask)).chunk(copies)
    v, cond = adapter.predict(z, t, concept.cond).value, concept.cond
    u = unit_column(attention.columns(concept.mask))
    if data.retain_images is not None:
        z, t, velocity, index = data.retain_images.flow_batch(config.batch_size, generator)
        v, cond = adapter.predict(z, t, data.retain.cond[index]).value, data.retain.cond[index]
    if config.preserve_target == "original":
        with torch.no_grad():
            velocity = adapter.model.predict(z, t, cond).value
    contrast = reverse_contrast(u, s, torch.stack(irrelevant, 1), config.temperature)
    return {"preserve": (v - velocity).square().mean(), "contrast": contrast}


def _generate_images(model: EditableModel, config: Config, run: Run, prompts: Sequence[str]) -> Latents:
    """Generates images with the original model, one prompt after another."""
    return generate_latents(
        model,
        prompts,
        num_images=config.num_images,
        num_inference_steps=config.num_inference_steps,
        guidance_scale=config.guidance_scale,
        seed=run.seed_for("images"),
        progress=run.progress,
    )
