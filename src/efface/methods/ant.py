"""ANT: auto-steering denoising trajectories (Li, Lu, Ren, Kong, ACM MM 2025, arXiv 2504.12782).

Early sampling steps lead to the manifold of images, later ones to the concept. ANT keeps the guidance in the early
steps P, reverses it in the others M, and holds the unconditional prediction in both:

    L = L_rev(M) + beta L_unc(M) + alpha ( L_keep(P) + beta L_unc(P) )
        L_keep = || G - [ e*_0 + s ( e*_c - e*_0 ) ] ||^2            G = e_0 + s ( e_c - e_0 )
        L_rev  = || G - [ e*_0 - s eta ( e*_c - e*_0 ) ] ||^2        L_unc = || e_0 - e*_0 ||^2

with the student e, the original e*, the concept c and the empty prompt 0. P are the first ``early_fraction`` of the
steps; alpha = ``keep_weight``, beta = ``uncond_weight``, eta = ``negative_guidance``, s = ``combined_guidance``.

One concept: only salient weights are trained. A map is the half of each tensor's entries with the largest gradient of L
over ``saliency_steps`` steps; a concept's mask is the intersection of ``saliency_maps`` maps with other noise and
prompts (the paper's augmentation), several concepts' masks are united. ``saliency_fraction=1`` trains all weights.
Many concepts (preset ``multiple``, ``lora_rank`` > 0): each concept trains a LoRA of the cross-attention keys and
values for a few steps, and the LoRAs are fused in closed form, as in MACE (`efface.ops.closed_form.fusion`).

Differences: a step's two points come from pooled trajectories of the original, not from one of the student. The maps'
own steps are gradient descent. eta, 1 in the paper, does not change the kept guidance. The authors train LoRAs of all
layers, of which the fusion keeps those of cross-attention, and scale them by 4.3. Preset ``released`` is their code for
one concept: (1) the kept part is at the clean end; (2) L_unc has no gradient; (3) maps mark the smallest gradients. The
paper has no templates of a library and no retain loss; that of ``retain_weight`` is AdvUnlearn's (arXiv 2405.15234).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor

from efface.core.concept import Concept
from efface.core.erasure import Erasure
from efface.core.method_card import MethodCard
from efface.models.editable import EditableModel
from efface.models.protocol import Conditioning
from efface.ops.closed_form.lora_fusion import fuse_loras
from efface.ops.retention.retain_set import RetainSet
from efface.ops.targets import classifier_free_guidance
from efface.ops.text.erase_prompts import ErasePrompts
from efface.ops.training.lora import LoraAdapter
from efface.ops.training.run import Run
from efface.ops.training.saliency import SaliencyConfig
from efface.ops.training.schedule import set_learning_rate
from efface.ops.training.student import Student
from efface.ops.training.timestep_range import check_split, split_timestep_ranges
from efface.ops.training.trajectory_config import TrajectoryConfig

CARD = MethodCard(
    name="ant",
    title="ANT",
    paper="Li et al.: Set You Straight: Auto-Steering Denoising Trajectories to Sidestep Unwanted Concepts, MM 2025",
    arxiv="2504.12782",
    families=("sd1", "sd2", "sdxl"),
    trains="the salient weights of the UNet, or a LoRA of the cross-attention for each concept",
    needs_gradient=True,
    needs_images=False,
    reconstruction=False,
    summary="Reverses the guidance towards the concept in middle and late sampling steps and keeps it in early ones.",
)


# fmt: off
@dataclass(frozen=True)
class Config:
    """ANT's hyper-parameters; the defaults are the paper's for one concept."""

    target_modules: str = field(default="unet_linear", metadata={"help": "Parameter group to change.", "range": "unet_linear, unet_all, attn_all, cross_all"})  # noqa: E501
    steps: int = field(default=250, metadata={"help": "Number of training steps."})
    learning_rate: float = field(default=5e-4, metadata={"help": "Learning rate of the optimiser.", "range": "1e-5 to 1e-3"})  # noqa: E501
    schedule: str = field(default="constant", metadata={"help": "Learning-rate schedule: constant or cosine."})
    batch_size: int = field(default=1, metadata={"help": "Number of training samples per step."})
    early_fraction: float = field(default=0.14, metadata={"help": "Share of the sampling steps that are early.", "range": "0.08 to 0.14"})  # noqa: E501
    kept_steps: str = field(default="first", metadata={"help": "End of the sampling steps at which guidance is kept: first or last."})  # noqa: E501
    keep_weight: float = field(default=1.0, metadata={"help": "Weight alpha of the kept part."})
    uncond_weight: float = field(default=0.5, metadata={"help": "Weight beta of the unconditional prediction's drift."})
    negative_guidance: float = field(default=1.0, metadata={"help": "Strength eta of the negative guidance.", "range": "0.5 to 3"})  # noqa: E501
    combined_guidance: float = field(default=1.0, metadata={"help": "Guidance scale s of the trained prediction; 1 trains e_c alone."})  # noqa: E501
    saliency_fraction: float = field(default=0.5, metadata={"help": "Share of the entries that a saliency map holds; 1 trains all."})  # noqa: E501
    saliency_maps: int = field(default=5, metadata={"help": "Number of intersected maps of each concept."})
    saliency_steps: int = field(default=10, metadata={"help": "Number of steps of a saliency map."})
    saliency_learning_rate: float = field(default=1e-2, metadata={"help": "Learning rate of these steps."})
    saliency_kept: str = field(default="largest", metadata={"help": "Gradients that a saliency map marks: largest or smallest."})  # noqa: E501
    lora_rank: int = field(default=0, metadata={"help": "Rank of each concept's LoRA; 0 trains salient weights.", "range": "0 to 64"})  # noqa: E501
    fusion_preserve_weight: float = field(default=60.0, metadata={"help": "Weight of the retain prompts in the fusion."})  # noqa: E501
    ridge: float = field(default=10.0, metadata={"help": "Weight of the weights' change in the fusion."})
    guidance_scale: float = field(default=3.0, metadata={"help": "Classifier-free guidance scale of the sampler."})
    num_inference_steps: int = field(default=50, metadata={"help": "Number of steps of the sampler."})
    trajectories_per_prompt: int = field(default=8, metadata={"help": "Number of pooled trajectories per prompt."})
    erase_from: bool = field(default=False, metadata={"help": "Keep the rest of the prompt: start from e*(f)."})
    num_templates: int = field(default=0, metadata={"help": "Number of templates from the library.", "range": "0 to 66"})  # noqa: E501
    retain_weight: float = field(default=0.0, metadata={"help": "Weight of the retain loss.", "range": "0 to 20"})


PRESETS: dict[str, dict[str, object]] = {
    "paper": {},
    "multiple": {
        "steps": 10, "batch_size": 2, "lora_rank": 64, "early_fraction": 0.08, "combined_guidance": 7.5,
        "guidance_scale": 7.5, "keep_weight": 0.5, "uncond_weight": 2.5, "num_templates": 30,
        "trajectories_per_prompt": 1,
    },
    "released": {"kept_steps": "last", "uncond_weight": 0.0, "saliency_kept": "smallest"},
    "pocket": {
        "target_modules": "attn_all", "learning_rate": 1e-3, "schedule": "cosine", "steps": 300, "batch_size": 6,
        "early_fraction": 0.1, "saliency_maps": 2, "saliency_steps": 3, "num_inference_steps": 20, "num_templates": 66,
        "retain_weight": 10.0, "trajectories_per_prompt": 1, "negative_guidance": 3.0, "erase_from": True,
    },
}
# fmt: on


def ant(model: EditableModel, concepts: Sequence[Concept], config: Config, run: Run) -> Erasure:
    """Steers the trajectories away from the concepts, which take turns, or from each in a LoRA of its own."""
    check_split(config.num_inference_steps, config.early_fraction, config.kept_steps)
    trajectories = TrajectoryConfig(config.trajectories_per_prompt, config.num_inference_steps, config.guidance_scale)
    erase_sets = [
        ErasePrompts.from_concepts(model, [concept], config.num_templates, trajectories, run.seed_for("pool", i))
        for i, concept in enumerate(concepts)
    ]
    if config.lora_rank:
        loras = [_train_lora(erase, i, config, run) for i, erase in enumerate(erase_sets)]
        fused = fuse_loras(model, concepts, loras, erase_sets, config.fusion_preserve_weight, config.ridge)
        run.record("fusion", {"condition": fused.condition})
        return run.erasure(fused.edits, fused.tensors)
    student = Student(model, config.target_modules)
    mask = _saliency_mask(student, erase_sets, config, run.generator("saliency"))
    retain_set = RetainSet.if_weighted(config.retain_weight, model, concepts, trajectories, run)
    optimiser = torch.optim.Adam(student.parameters(), lr=config.learning_rate)
    for step in run.steps(config.steps, student.trainable_params, optimiser):
        set_learning_rate(optimiser, config.learning_rate, config.schedule, step.index, config.steps)
        erase = erase_sets[step.index % len(erase_sets)]
        loss, losses = _steering_loss(student, erase, config, run.generator("batch"))
        if retain_set is not None:
            losses["retain"] = retain_set.random_loss(student, config.batch_size, run.generator("retain"))
            loss = loss + config.retain_weight * losses["retain"]
        step.backward(loss, {name: part.detach() for name, part in losses.items()})
        for name, parameter in student.trainable_params.items():
            if mask and parameter.grad is not None:
                parameter.grad *= mask[name]
        step.update()
    return run.erasure(*student.replace_edits())


def _saliency_mask(
    student: Student, erase_sets: Sequence[ErasePrompts], config: Config, generator: torch.Generator
) -> dict[str, Tensor] | None:
    """Marks the weights to train; None trains all."""
    if config.saliency_fraction == 1:
        return None

    def loss(erase: ErasePrompts) -> Tensor:
        return _steering_loss(student, erase, config, generator)[0]

    numbers = (config.saliency_maps, config.saliency_steps, config.saliency_learning_rate)
    settings = SaliencyConfig(config.saliency_fraction, *numbers, config.saliency_kept)
    return settings.mask(student, [partial(loss, erase) for erase in erase_sets])


def _steering_loss(
    student: Student | LoraAdapter, erase: ErasePrompts, config: Config, generator: torch.Generator
) -> tuple[Tensor, dict[str, Tensor]]:
    """Computes L, and its terms, at one point of each part of the trajectories."""
    kept_range, reversed_range = split_timestep_ranges(erase.pool, config.early_fraction, config.kept_steps)
    kept = erase.pool.sample(config.batch_size, generator, timestep_range=kept_range)
    reverse = erase.pool.sample(config.batch_size, generator, timestep_range=reversed_range)
    z, t = torch.cat([kept.z, reverse.z] * 2), torch.cat([kept.t, reverse.t] * 2)
    cond = Conditioning.cat([kept.cond, reverse.cond, erase.model.unconditional(2 * config.batch_size)])
    e_c, e_0 = student.predict(z, t, cond).value.chunk(2)
    scale = config.combined_guidance
    kept_guided, reversed_guided = classifier_free_guidance(e_c, e_0, scale).chunk(2)
    kept_uncond, reversed_uncond = e_0.chunk(2)
    reversed_target = erase.negative_target(reverse, config.negative_guidance, erase_from=config.erase_from)
    kept_target = classifier_free_guidance(kept.conditional, kept.unconditional, scale)
    reversed_target = classifier_free_guidance(reversed_target, reverse.unconditional, scale)
    losses = {
        "reverse": (reversed_guided - reversed_target).square().mean(),
        "keep": (kept_guided - kept_target).square().mean(),
        "reverse_drift": (reversed_uncond - reverse.unconditional).square().mean(),
        "keep_drift": (kept_uncond - kept.unconditional).square().mean(),
    }
    reverse_loss = losses["reverse"] + config.uncond_weight * losses["reverse_drift"]
    keep_loss = losses["keep"] + config.uncond_weight * losses["keep_drift"]
    return reverse_loss + config.keep_weight * keep_loss, losses


def _train_lora(erase: ErasePrompts, index: int, config: Config, run: Run) -> LoraAdapter:
    """Trains one concept's LoRA of the cross-attention keys and values."""
    lora = LoraAdapter(erase.model, "cross_kv", config.lora_rank, run.generator("lora"))
    optimiser = torch.optim.AdamW(list(lora.trainable_params.values()), lr=config.learning_rate)
    for step in run.steps(config.steps, lora.trainable_params, optimiser, phase=f"lora {index + 1}"):
        loss, losses = _steering_loss(lora, erase, config, run.generator("batch"))
        step.optimize(loss, {name: part.detach() for name, part in losses.items()})
    return lora
