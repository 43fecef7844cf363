"""UCE: Unified Concept Editing (Gandikota, Orgad, Belinkov, Materzynska, Bau, WACV 2024, arXiv 2308.14761).

Only the cross-attention keys and values W read a prompt's states; in SD3 and FLUX the context embedder does, whose
bias stays. UCE solves for new ones in closed form: they map the states k_i of the concept's tokens to what W gave for
an anchor's states a_i, and preserve it for other states r_j,

    sum_i s_e |W' k_i - W a_i|^2 + sum_j s_p |W' r_j - W r_j|^2 + lambda |W' - W|_F^2 -> min,        W' = W (I + E)

with one E for all layers (`efface.ops.closed_form.solve`). All concepts are solved together, from the original weights.
Without an anchor, the rest of the prompt or the empty prompt is the anchor.

The paired tokens differ between the authors' versions. Preset ``paper`` (2023) pairs all tokens from the concept's
last one on, in order, as far as both sides have tokens, and preserves all tokens of the empty prompt and of the retain
prompts with s_p = max(0.1, 1/n). Preset ``released`` (2025) pairs the last tokens alone, with s_p = 1. The authors use
0 or 5 templates besides the words alone. Difference: in both codes the last token of an empty anchor or retain prompt
is BOS, which all prompts share. Here it is the end of text; presets ``released`` and ``released_2023`` take BOS.

With ``attributes``, UCE balances a concept's attributes instead ("a doctor" between "a woman" and "a man"). The targets
start at the concept's own states and move in every round towards the attributes that are too rare in the edited model's
images, according to a zero-shot classifier, until no share is off by more than ``max_difference``:

    a_i <- a_i + step_size sum_p (desired_p - observed_p) c_p
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from itertools import cycle, islice

import torch
from torch import Tensor

from efface.core.concept import Concept
from efface.core.erasure import Erasure
from efface.core.method_card import MethodCard
from efface.detectors.zero_shot import Scorer, class_frequencies, load_scorer
from efface.models.editable import EditableModel
from efface.models.float32_weights import float32_group
from efface.ops.closed_form import (
    EmbeddingCache,
    GramAccumulator,
    Pairs,
    PreservedStates,
    Problem,
    PromptFilter,
    Statistics,
    build_pairs,
    concept_pairs,
    concept_prompts,
    solve_and_record,
    to_edit,
)
from efface.ops.training.run import Run

CARD = MethodCard(
    name="uce",
    title="UCE",
    paper="Gandikota, Orgad, Belinkov, Materzynska, Bau: Unified Concept Editing in Diffusion Models, WACV 2024",
    arxiv="2308.14761",
    families=("sd1", "sd2", "sdxl", "sd3", "flux", "sana"),
    trains="cross-attention keys and values",
    needs_gradient=False,
    needs_images=False,
    reconstruction=False,
    summary="Solves in closed form for cross-attention keys and values that read the concept as its anchor.",
)


@dataclass(frozen=True)
class Config:
    """UCE's hyper-parameters; the defaults are those of the authors' first version, but for ``empty_as_bos``."""

    target_modules: str = field(
        default="cross_kv", metadata={"help": "Parameter group to change.", "range": "cross_kv, cross_v"}
    )
    token_positions: str = field(
        default="tail", metadata={"help": "Token states to redirect.", "range": "last, tail, eos, all, after_bos"}
    )
    num_templates: int = field(
        default=0, metadata={"help": "Number of templates from the library.", "range": "0 to 66"}
    )
    erase_scale: float = field(default=1.0, metadata={"help": "Weight s_e of a pair."})
    preserve_scale: float = field(default=0.0, metadata={"help": "Weight s_p of a preserved state; 0: max(0.1, 1/n)."})
    preserve_positions: str = field(default="all", metadata={"help": "Preserved tokens of a prompt: all or last."})
    preserve_empty_prompt: bool = field(default=True, metadata={"help": "Preserve the empty prompt."})
    ridge: float = field(default=0.5, metadata={"help": "Weight lambda of the weights' change.", "range": "0 to 50"})
    gram_folder: str = field(default="", metadata={"help": "Folder with captions' Gram matrix (`efface gram`)."})
    gram_scale: float = field(default=1e-4, metadata={"help": "Weight of a preserved state in the Gram matrix."})
    empty_as_bos: bool = field(default=False, metadata={"help": "Use BOS as the last token of an empty text."})
    attributes: tuple[str, ...] = field(default=(), metadata={"help": "Attributes to balance instead of erasing."})
    max_rounds: int = field(default=30, metadata={"help": "Largest number of balancing rounds.", "range": "1 to 30"})
    num_images: int = field(default=10, metadata={"help": "Number of images per balancing round and concept."})
    step_size: float = field(default=1.0, metadata={"help": "Step size of the balancing.", "range": "0.1 to 1"})
    max_difference: float = field(default=0.05, metadata={"help": "Difference of a share at which balancing stops."})
    guidance_scale: float = field(default=7.5, metadata={"help": "Classifier-free guidance scale of the sampler."})
    classifier: str = field(default="pocket-clip", metadata={"help": "Classifier: pocket-clip, CLIP folder or hub id."})
    edit_format: str = field(
        default="low_rank", metadata={"help": "Form of the edit: low_rank (a LoRA) or filter (a map of text states)."}
    )


PRESETS: dict[str, dict[str, object]] = {
    "paper": {},
    "sd3": {"target_modules": "reads_text"}, "flux": {"target_modules": "reads_text"},
    "sana": {"target_modules": "reads_text"},
    "released": {
        "token_positions": "last", "preserve_positions": "last", "preserve_scale": 1.0, "preserve_empty_prompt": False,
        "empty_as_bos": True,
    },
    "released_2023": {"empty_as_bos": True},
    "pocket": {"num_templates": 66, "preserve_scale": 3.0, "ridge": 50.0},
}  # fmt: skip


def uce(model: EditableModel, concepts: Sequence[Concept], config: Config, run: Run) -> Erasure:
    """Redirects all concepts to their anchors with one solution."""
    stats = statistics(model, concepts, config)
    if config.attributes:
        stats = _debias_targets(model, concepts, stats, config, run)
    return solve(model, stats, config, run)


def statistics(
    model: EditableModel, concepts: Sequence[Concept], config: Config, known: Collection[str] = ()
) -> Statistics:
    """Encodes the concepts, their anchors and the texts to preserve.

    Args:
        model: the original model.
        concepts: the concepts.
        config: the configuration.
        known: texts that are preserved already and are left out.
    """
    cache = EmbeddingCache.for_model(model)
    pairs = concept_pairs(cache, concepts, config.num_templates, config.token_positions, config.empty_as_bos)
    texts = [""] if config.preserve_empty_prompt else []
    texts += [prompt for concept in concepts for prompt in concept.retain_prompts]
    all_tokens = config.preserve_positions == "all"
    return Statistics(pairs, PreservedStates.from_texts(cache, texts, all_tokens, known, config.empty_as_bos))


def solve(model: EditableModel, stats: Statistics, config: Config, run: Run) -> Erasure:
    """Computes the erasure from its `statistics`."""
    layers = float32_group(model, config.target_modules).parameters
    update = solve_and_record(_build_problem(model, stats, config), layers, run)
    edit, tensors = to_edit(model, update, config.target_modules, config.edit_format)
    return run.erasure([edit], {**tensors, **stats.tensors()})


def _build_problem(model: EditableModel, stats: Statistics, config: Config) -> Problem:
    """Builds the closed-form problem."""
    preserve = stats.preserved.preserve(config.preserve_scale or max(0.1, 1 / max(len(stats.preserved.texts), 1)))
    if config.gram_folder:
        preserve = preserve.with_gram(GramAccumulator.load(config.gram_folder).matrix_for(model), config.gram_scale)
    return Problem(Pairs.cat(stats.pairs).scaled(config.erase_scale), preserve, config.ridge)


def _debias_targets(
    model: EditableModel, concepts: Sequence[Concept], stats: Statistics, config: Config, run: Run
) -> Statistics:
    """Finds targets with which the concepts' images show all attributes equally often."""
    cache, scorer = EmbeddingCache.for_model(model), load_scorer(config.classifier, model.device)
    pairs, attribute_states = [], []
    for concept in concepts:
        anchored = [replace(concept, anchor=attribute) for attribute in config.attributes]
        rows = [build_pairs(cache, concept_prompts(c, config.num_templates), config.token_positions) for c in anchored]
        attribute_states.append(torch.stack([row.anchor for row in rows]))
        pairs.append(replace(rows[0], anchor=rows[0].source.clone()))
    stats = replace(stats, pairs=tuple(pairs))
    targets = {concept.name: pair.anchor for concept, pair in zip(concepts, pairs, strict=True)}
    optimiser = torch.optim.SGD(targets.values())  # for the checkpoints; the targets move in place
    for step in run.steps(config.max_rounds, targets, optimiser, phase="debias", checkpoint_every=1):
        prompt_filter = PromptFilter(model, _build_problem(model, stats, config).solve().matrix())
        differences = []
        for i, concept in enumerate(concepts):
            seed = run.seed_for("debias", step.index, i) % 2**31
            with prompt_filter.applied():
                shares = _attribute_shares(model, scorer, concept, seed, config)
            differences.append(1 / len(config.attributes) - shares)
        largest = [float(difference.abs().max()) for difference in differences]
        step.losses["largest"] = max(largest)
        if max(largest) < config.max_difference:
            run.record("balanced", {"rounds": step.index, **step.losses})
            break
        for i, difference in enumerate(differences):
            if largest[i] >= config.max_difference:
                move = torch.einsum("p,pdm->dm", difference, attribute_states[i])
                pairs[i].anchor.add_(config.step_size * move)
    return stats


def _attribute_shares(model: EditableModel, scorer: Scorer, concept: Concept, seed: int, config: Config) -> Tensor:
    """Returns the share of each attribute in images of the concept, ``(attributes,)``."""
    prompts = list(islice(cycle(concept.render_prompts()), config.num_images))
    images = model.sample(prompts, seeds=range(seed, seed + len(prompts)), guidance_scale=config.guidance_scale)
    return class_frequencies(scorer, images, config.attributes)
