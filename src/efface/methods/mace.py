"""MACE: Mass Concept Erasure (Lu, Wang, Li, Liu, Kong, CVPR 2024, arXiv 2403.06135).

Three stages, all of them on keys and values of the attention to the text, W.

1. Refinement. In "a photo of a ship at sea" every token behind the ship has taken it up. What such tokens gave, k_i, becomes what the same
   tokens give in the sentence about the anchor, a_i; the concept's own tokens are left out, end of text and padding are not:
   sum_i |W' k_i - W a_i|^2 + s |W' R - W R|^2 + lambda |W' - W|_F^2 -> min.
2. For each concept by itself, a LoRA B A on the refined weights, trained so that nothing attends to the concept any more:
   L = sum_layers || P[heads, pixels in the mask, the concept's tokens, end of text and padding] ||_F, with P the attention's probabilities
   for a noised image of the concept, at timesteps at which it takes shape: p(t) ~ sigmoid(g (t - 200)) - sigmoid(g (t - 400)).
3. Fusion of all LoRAs in closed form (see `efface.ops.closed_form.fusion`).

What must stay, R, are all tokens of captions; s is given for their mean, so that ``cfr_preserve`` = 60 says "as much as 60 captions". The
authors take COCO's 616 767 captions with 1e-4 each, which makes 60 (``gram`` is where such a Gram lies); in their code refinement
multiplies by this scale twice, which makes 0.006 (``released``). For objects they preserve nothing and set lambda to 10 to 1000. Without
captions the concepts' retain prompts and the empty one are preserved.

Where we differ: masks are where the frozen model's own attention to the concept is high, not a segmentation by another model;
``mask="folder"`` takes those of any tool. Latents come straight out of the sampler. What is saved is exact: a layer's change as factors
where its rank is small enough for that to be smaller, else the layer (refinement of many sentences is not of low rank).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from efface.core.concept import Concept, fill_templates
from efface.core.erasure import Erasure
from efface.core.errors import EffaceError, UnknownNameError
from efface.core.method_card import MethodCard
from efface.models.editable import EditableModel
from efface.models.protocol import Conditioning, Params
from efface.ops.attention.concept_masks import MASKS, attention_masks, check_fits, read_masks
from efface.ops.attention.maps import attention_maps
from efface.ops.closed_form import (
    EmbeddingCache,
    Fusion,
    Pairs,
    Preserve,
    Problem,
    co_occurring,
    diagnose,
    edited_weights,
    mean_caption,
    prompts_naming,
    smallest_exact_edits,
)
from efface.ops.text.concept_tokens import locate_concept
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
    trains="keys and values of the attention to the text",
    needs_gradient=True,
    needs_images=True,
    vram={},
    minutes={"pocket": 0.1},
    reconstruction=False,
    summary="Refines what stands around the concepts in closed form, and fuses LoRAs that take attention away from each of them.",
)


@dataclass(frozen=True)
class Config:
    """MACE's hyper-parameters; the defaults are the paper's for objects, with what must stay as for celebrities."""

    num_templates: int = field(
        default=30, metadata={"help": "sentences of the template library, beside the words alone", "range": "0 to 66"}
    )
    ridge: float = field(
        default=10.0, metadata={"help": "lambda, closeness to the matrices before", "range": "0 to 1000"}
    )
    refinement_preserve_weight: float = field(
        default=60.0, metadata={"help": "weight of the mean caption in the refinement"}
    )
    fusion_preserve_weight: float = field(default=60.0, metadata={"help": "weight of the mean caption in the fusion"})
    gram_folder: str = field(
        default="", metadata={"help": "folder with a Gram of captions; by default that of the retain prompts is made"}
    )
    rank: int = field(default=1, metadata={"help": "rank of each concept's LoRA"})
    steps: int = field(default=50, metadata={"help": "training steps for each concept", "range": "50 to 120"})
    learning_rate: float = field(default=1e-5, metadata={"help": "AdamW's learning rate", "range": "1e-5 to 1e-4"})
    batch_size: int = field(default=1, metadata={"help": "images a step"})
    max_grad_norm: float = field(default=1.0, metadata={"help": "largest norm of the gradient"})
    concept_timesteps: bool = field(
        default=True, metadata={"help": "whether timesteps are those at which the concept takes shape; else all evenly"}
    )
    timestep_slope: float = field(default=0.05, metadata={"help": "g, how sharply they begin and end"})
    num_images: int = field(default=8, metadata={"help": "images of each concept that the original draws"})
    num_inference_steps: int = field(default=30, metadata={"help": "DDIM steps of an image"})
    guidance_scale: float = field(default=7.5, metadata={"help": "guidance scale of the images"})
    mask: str = field(default="attention", metadata={"help": "where in an image: none (everywhere), attention, folder"})
    mask_folder: str = field(
        default="", metadata={"help": "the folder: one PNG for each image, in order, white where the concept is"}
    )
    mask_threshold: float = field(
        default=0.5, metadata={"help": "share of an image's largest attention that is within the mask"}
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
    """Refine, train a LoRA for each concept, and fuse them."""
    check_concepts(config)
    bank, sites = EmbeddingCache.of(model), model.parameter_group("cross_kv")
    rows = [prompts_naming(concept, config.num_templates) for concept in concepts]
    kept = mean_caption(
        model, bank, (prompt for concept in concepts for prompt in concept.retain_prompts), config.gram_folder
    )
    pairs = Pairs.cat([co_occurring(model, bank, own) for own in rows])
    refinement = Problem(pairs, Preserve(gram=kept * config.refinement_preserve_weight), config.ridge)
    refined = refinement.solve()
    start = edited_weights(model, refined)
    adapters = [
        train_suppression_lora(model, concepts, i, rows[i], start, config, run).factors() for i in range(len(concepts))
    ]
    states = [torch.cat([bank.states(prompt) for prompt, _, _ in own]).T for own in rows]
    fusion = Fusion(refined, states, Preserve(gram=kept * config.fusion_preserve_weight), config.ridge)
    deltas, condition = fusion.solve(sites.parameters, adapters)
    run.record("solve", {**diagnose(refinement, refined, sites.parameters).numbers(), "fusion": condition})
    edits, tensors = smallest_exact_edits(deltas, sites)
    return run.erasure(edits, tensors)


def check_concepts(config: Config) -> None:
    """Raises `UnknownName` for a choice that is none, `EffaceError` for masks without a folder."""
    if config.mask not in MASKS:
        raise UnknownNameError("mask", config.mask, MASKS)
    if config.mask == "folder" and not config.mask_folder:
        raise EffaceError(
            "mask=folder needs masks: set masks to a folder with one PNG for each image, or mask=attention"
        )


def train_suppression_lora(
    model: EditableModel, concepts: Sequence[Concept], number: int, rows: Sequence[tuple[str, str, str]], start: Params, config: Config, run: Run
) -> LoraAdapter:  # fmt: skip
    """The LoRA of one concept, trained on the refined weights."""
    words = list(concepts[number].words)
    drawn = generate_latents(
        model, fill_templates(concepts[number].templates[:1], words), count=config.num_images, steps=config.num_inference_steps, guidance=config.guidance_scale,
        seed=run.seed_for("images", number), progress=run.progress,
    )  # fmt: skip
    latents = replace(drawn, prompt=torch.arange(config.num_images))
    about = [
        [i for i, row in enumerate(rows) if row[2] == words[p]] or list(range(len(rows))) for p in drawn.prompt.tolist()
    ]
    frames = locate_concept(model, [row[0] for row in rows], [row[2] for row in rows])
    places = torch.arange(frames.context_mask.shape[1], device=model.device)
    marked = frames.concept_mask() | (places >= frames.tokens.eos[:, None])
    with torch.no_grad():
        cond = model.encode(frames.tokens)
    first = torch.tensor([own[0] for own in about])
    masks = load_concept_masks(
        model, latents.x0, cond[first], frames.concept_mask()[first], number, len(concepts), config, run
    )
    adapter = LoraAdapter(model, "cross_kv", config.rank, run.generator("adapter"), start)
    optimiser = torch.optim.AdamW(list(adapter.trainable_params.values()), lr=config.learning_rate)
    density = concept_timestep_density(model.timesteps, config.timestep_slope) if config.concept_timesteps else None
    phase = f"lora {number + 1} {''.join(c if c.isalnum() else '-' for c in concepts[number].name)}"
    with attention_maps(model) as maps:
        for step in run.steps(
            config.steps, adapter.trainable_params, optimiser, clip=config.max_grad_norm, phase=phase
        ):
            z, t, _, which = latents.add_noise(config.batch_size, run.generator("batch"), density)
            share = torch.rand(config.batch_size, generator=run.generator("batch")).tolist()
            chosen = torch.tensor(
                [about[p][int(s * len(about[p]))] for p, s in zip(which.tolist(), share, strict=True)]
            )
            adapter.predict(z, t, cond[chosen])
            step.optimize(attention_loss(list(maps.values()), masks[which], marked[chosen]))
    return adapter


def attention_loss(maps: Sequence[Tensor], masks: Tensor, marked: Tensor) -> Tensor:
    """The mean over a batch of the sum over layers of || P ||_F at marked tokens ``(B, L)`` and within masks ``(B, H, W)``."""
    parts = []
    for layer in maps:
        here = check_fits(masks, layer.shape[2])[:, None, :, None] & marked[:, None, None, :]
        parts.append((layer * here).flatten(1).norm(dim=1).mean())
    return torch.stack(parts).sum()


def load_concept_masks(
    model: EditableModel, clean: Tensor, cond: Conditioning, own: Tensor, number: int, count: int, config: Config, run: Run
) -> Tensor:  # fmt: skip
    """The masks of one concept's images, ``(images, H, W)``."""
    if config.mask == "none":
        return torch.ones(len(clean), *clean.shape[-2:], device=clean.device)
    if config.mask == "folder":
        return read_masks(config.mask_folder, count * len(clean))[number * len(clean) :][: len(clean)].to(clean.device)
    return attention_masks(model, clean, cond, own, run.generator("mask"), threshold=config.mask_threshold)
