"""MACE: Mass Concept Erasure (Lu, Wang, Li, Liu, Kong, CVPR 2024, arXiv 2403.06135).

MACE edits the cross-attention keys and values W in three stages:

1. Refinement. In "a photo of a ship at sea", all tokens after the ship carry it. In closed form, the state k_i of every
   token that the anchor prompt shares is mapped to that of the same token there, a_i:

       sum_i |W' k_i - W a_i|^2 + s |W' R - W R|^2 + lambda |W' - W|_F^2 -> min

2. Suppression. Each concept trains its own LoRA on the refined weights, so that no pixel attends to the concept:

       L = sum over layers || P[heads, pixels in the mask, the concept's tokens, EOS and padding] ||_F

   with the attention probabilities P for images of the concept, noised to the timesteps at which it takes shape:
   p(t) ~ sigmoid(g (t - 200)) - sigmoid(g (t - 400)), g = ``timestep_slope``.
3. Fusion of all LoRAs in closed form (`efface.ops.closed_form.fusion`).

R are all token states of captions to preserve, and s weighs their mean: s = 60 is the weight of 60 captions. The
authors use COCO's 616 767 captions at 1e-4 each, which makes 60 (``gram_folder``); their code applies the scale twice
in the refinement, which makes 0.006 (preset ``released``). For objects they preserve nothing and set lambda to 10 to
1000. Without captions, R are the retain prompts and the empty prompt.

Differences: masks come from the frozen model's own attention, not from a segmentation model, or from any tool's files
(``mask="folder"``). Latents come directly from the sampler. Each layer's change is stored exactly, in the smaller form.
The 30 published prompts leave out the word alone, which we add to the templates.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from efface.core.concept import Concept, fill_templates
from efface.core.erasure import Erasure
from efface.core.errors import EffaceError, UnknownNameError
from efface.core.method_card import MethodCard
from efface.models.attention_maps import attention_maps
from efface.models.editable import EditableModel
from efface.models.float32_weights import float32_group
from efface.models.protocol import Params
from efface.ops.attention.concept_masks import MASK_SOURCES
from efface.ops.attention.suppression import SuppressionData, suppression_loss
from efface.ops.closed_form import (
    EmbeddingCache,
    Fusion,
    Pairs,
    Preserve,
    Problem,
    co_occurring_pairs,
    diagnose,
    edited_weights,
    mean_caption_gram,
    prompts_naming,
    smallest_exact_edits,
)
from efface.ops.training.latents import generate_latents
from efface.ops.training.lora import LoraAdapter
from efface.ops.training.run import Run
from efface.ops.training.schedule import concept_timestep_density

CARD = MethodCard(
    name="mace",
    title="MACE",
    paper="Lu, Wang, Li, Liu, Kong: MACE: Mass Concept Erasure in Diffusion Models, CVPR 2024",
    arxiv="2403.06135",
    families=("sd1",),
    trains="cross-attention keys and values",
    needs_gradient=True,
    needs_images=True,
    reconstruction=False,
    summary="Refines co-occurring tokens in closed form, then fuses LoRAs that suppress the attention to each concept.",
)


@dataclass(frozen=True)
class Config:
    """MACE's hyper-parameters; the defaults are the paper's for objects, with preservation as for celebrities."""

    num_templates: int = field(
        default=30, metadata={"help": "Number of templates from the library.", "range": "0 to 66"}
    )
    ridge: float = field(default=10.0, metadata={"help": "Weight lambda of the weights' change.", "range": "0 to 1000"})
    refinement_preserve_weight: float = field(default=60.0, metadata={"help": "Weight s in the refinement."})
    fusion_preserve_weight: float = field(default=60.0, metadata={"help": "Weight s in the fusion."})
    gram_folder: str = field(default="", metadata={"help": "Folder with captions' Gram matrix (`efface gram`)."})
    rank: int = field(default=1, metadata={"help": "Rank of the LoRA."})
    steps: int = field(default=50, metadata={"help": "Number of training steps.", "range": "50 to 120"})
    learning_rate: float = field(
        default=1e-5, metadata={"help": "Learning rate of the optimiser.", "range": "1e-5 to 1e-3"}
    )
    batch_size: int = field(default=1, metadata={"help": "Number of training samples per step."})
    max_grad_norm: float = field(default=1.0, metadata={"help": "Largest gradient norm; larger gradients are clipped."})
    concept_timesteps: bool = field(default=True, metadata={"help": "Prefer timesteps at which a concept takes shape."})
    timestep_slope: float = field(default=0.05, metadata={"help": "Steepness g of that preference."})
    num_images: int = field(default=8, metadata={"help": "Number of images that the original model generates."})
    num_inference_steps: int = field(default=30, metadata={"help": "Number of steps of the sampler."})
    guidance_scale: float = field(default=7.5, metadata={"help": "Classifier-free guidance scale of the sampler."})
    mask: str = field(default="attention", metadata={"help": "Source of the masks: none, attention or folder."})
    mask_folder: str = field(default="", metadata={"help": "Folder with one PNG per image, white at the concept."})
    mask_threshold: float = field(
        default=0.5, metadata={"help": "Attention threshold, as a share of an image's maximum."}
    )


PRESETS: dict[str, dict[str, object]] = {
    "paper": {},
    "released": {"ridge": 0.0, "refinement_preserve_weight": 0.006, "learning_rate": 1e-4},
    "style": {"ridge": 0.0, "learning_rate": 1e-4, "mask": "none"},
    "nudity": {
        "ridge": 0.0,
        "refinement_preserve_weight": 0.4,
        "fusion_preserve_weight": 0.4,
        "steps": 120,
        "concept_timesteps": False,
    },
    "pocket": {
        "num_templates": 66,
        "ridge": 36.0,
        "refinement_preserve_weight": 120.0,
        "learning_rate": 1e-3,
        "num_inference_steps": 20,
        "guidance_scale": 3.0,
    },
}


def mace(model: EditableModel, concepts: Sequence[Concept], config: Config, run: Run) -> Erasure:
    """Refines the weights, trains a LoRA for each concept, and fuses the LoRAs."""
    _check_config(config)
    cache, layers = EmbeddingCache.for_model(model), float32_group(model, "cross_kv")
    prompt_pairs = [prompts_naming(concept, config.num_templates) for concept in concepts]
    retain_prompts = [prompt for concept in concepts for prompt in concept.retain_prompts]
    gram = mean_caption_gram(model, cache, retain_prompts, config.gram_folder)
    pairs = Pairs.cat([co_occurring_pairs(model, cache, rows) for rows in prompt_pairs])
    refinement = Problem(pairs, Preserve(gram=gram * config.refinement_preserve_weight), config.ridge)
    refined = refinement.solve()
    weights = edited_weights(model, refined)
    adapters = []
    for i, concept in enumerate(concepts):
        data = _suppression_data(model, concepts, i, config, run)
        phase = f"lora {i + 1} " + re.sub(r"[\W_]", "-", concept.name)
        adapters.append(_train_lora(data, weights, config, run, phase).factors())
    states = [torch.cat([cache.states(prompt) for prompt, _, _ in rows]).T for rows in prompt_pairs]
    fusion = Fusion(refined, states, Preserve(gram=gram * config.fusion_preserve_weight), config.ridge)
    deltas, condition = fusion.solve(layers.parameters, adapters)
    run.record("solve", {**diagnose(refinement, refined, layers.parameters).numbers(), "fusion": condition})
    return run.erasure(*smallest_exact_edits(deltas, layers))


def _check_config(config: Config) -> None:
    """Raises `UnknownNameError` for an unknown mask source, `EffaceError` for one without its folder."""
    if config.mask not in MASK_SOURCES:
        raise UnknownNameError("mask", config.mask, MASK_SOURCES)
    if config.mask == "folder" and not config.mask_folder:
        raise EffaceError(
            "mask=folder needs masks: set mask_folder to a folder with one PNG per image, or set mask=attention"
        )


def _suppression_data(
    model: EditableModel, concepts: Sequence[Concept], index: int, config: Config, run: Run
) -> SuppressionData:
    """Generates images of one concept with their prompts and masks."""
    concept = concepts[index]
    images = generate_latents(
        model,
        fill_templates(concept.templates[:1], concept.words),
        num_images=config.num_images,
        num_inference_steps=config.num_inference_steps,
        guidance_scale=config.guidance_scale,
        seed=run.seed_for("pictures", index),
        progress=run.progress,
    )
    prompts = [(prompt, word) for prompt, _, word in prompts_naming(concept, config.num_templates)]
    data = SuppressionData(images, concept.words, prompts)
    if config.mask == "folder":
        data.read_masks(config.mask_folder, index, len(concepts))
    if config.mask == "attention":
        data.compute_masks(run.generator("mask"), config.mask_threshold)
    return data


def _train_lora(data: SuppressionData, weights: Params, config: Config, run: Run, phase: str) -> LoraAdapter:
    """Trains one concept's LoRA on the refined weights."""
    model = data.model
    adapter = LoraAdapter(model, "cross_kv", config.rank, run.generator("adapter"), weights)
    parameters = adapter.trainable_params
    optimiser = torch.optim.AdamW(list(parameters.values()), lr=config.learning_rate)
    density = None
    if config.concept_timesteps:
        density = concept_timestep_density(model.num_train_timesteps, config.timestep_slope)
    with attention_maps(model) as maps:
        for step in run.steps(config.steps, parameters, optimiser, max_grad_norm=config.max_grad_norm, phase=phase):
            batch = data.sample(config.batch_size, run.generator("batch"), density)
            adapter.predict(batch.z, batch.t, batch.cond)
            step.optimize(suppression_loss(list(maps.values()), batch))
    return adapter
