"""UCE: Unified Concept Editing (Gandikota, Orgad, Belinkov, Materzynska, Bau, WACV 2024, arXiv 2308.14761).

The keys and values of the attention to the text are the only readers of a prompt's states. UCE solves for new ones in closed form: the
states k_i of the concept's tokens shall give what the states a_i of an anchor gave, other states r_j what they gave,

    sum_i s_e |W' k_i - W a_i|^2 + sum_j s_p |W' r_j - W r_j|^2 + lambda |W' - W|_F^2 -> min,        W' = W (I + E)

with one E for all layers (see `efface.ops.closed_form.solve`). With another concept as the anchor a word is redirected, with the empty one
it is moderated. All concepts are solved for together, always from the original weights.

Which tokens are paired differs between the authors' versions. In 2023 all from the concept's last token to the end of the context are,
matched in order with the anchor's, and what is kept is all tokens of the empty prompt and of the retain prompts, with s_p = max(0.1, 1/n):
``paper``. Since 2025 it is the last token alone, on both sides, with s_p = 1: ``released``, where moreover the last token of an empty
prompt is BOS; elsewhere we take its end of text. ``templates`` says in how many sentences beside the words alone, theirs are 0 or 5.

With ``attributes`` nothing is erased but balanced ("a doctor" by "a woman", "a man"): targets start where the concept's states are, and
round after round move towards the attributes that the edited model draws too seldom, by a zero-shot classifier of its images,

    a_i <- a_i + step sum_p (desired_p - observed_p) c_p

until no attribute is off by more than ``max_diff``; each round solves from the original weights.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace

import torch

from efface.core.concept import Concept
from efface.core.erasure import Erasure
from efface.core.method_card import MethodCard
from efface.detectors.zero_shot import class_frequencies, load_scorer
from efface.models.editable import EditableModel
from efface.ops.closed_form import (
    EmbeddingCache,
    GramAccumulator,
    Pairs,
    PreservedStates,
    Problem,
    PromptFilter,
    Statistics,
    build_pairs,
    concept_prompts,
    diagnose,
    to_edit,
)
from efface.ops.training.run import Run

CARD = MethodCard(
    name="uce",
    title="UCE",
    paper="Gandikota, Orgad, Belinkov, Materzynska, Bau: Unified Concept Editing in Diffusion Models, WACV 2024",
    arxiv="2308.14761",
    families=("sd1", "sd2", "sdxl"),
    trains="keys and values of the attention to the text",
    needs_gradient=False,
    needs_images=False,
    vram={},
    minutes={},
    reconstruction=False,
    summary="Solves in closed form for keys and values that read the concept as its anchor.",
)


@dataclass(frozen=True)
class Config:
    """UCE's hyper-parameters; the defaults are those of the authors' first version."""

    target_modules: str = field(default="cross_kv", metadata={"help": "which matrices are edited: cross_kv, cross_v"})
    token_positions: str = field(default="tail", metadata={"help": "states that are paired: last, tail, eos, all"})
    num_templates: int = field(
        default=0, metadata={"help": "sentences of the template library, beside the words alone", "range": "0 to 66"}
    )
    erase_scale: float = field(default=1.0, metadata={"help": "s_e, weight of a pair"})
    preserve_scale: float = field(
        default=0.0, metadata={"help": "s_p, weight of a preserved state; 0: the larger of 0.1 and 1/n"}
    )
    preserve_positions: str = field(
        default="all", metadata={"help": "states of the retain prompts that are preserved: all, last"}
    )
    preserve_empty_prompt: bool = field(default=True, metadata={"help": "whether the empty prompt is preserved, too"})
    ridge: float = field(
        default=0.5, metadata={"help": "lambda, closeness to the original matrices", "range": "0 to 10"}
    )
    gram_folder: str = field(
        default="", metadata={"help": "folder of a Gram of captions that must stay, too (`efface gram`)"}
    )
    gram_scale: float = field(default=1e-4, metadata={"help": "weight of a state in the Gram"})
    bos_anchor: bool = field(
        default=False, metadata={"help": "an empty anchor's last token is BOS, as in the released code"}
    )
    attributes: tuple[str, ...] = field(
        default=(), metadata={"help": "debias: what the concept's images should show equally often"}
    )
    max_rounds: int = field(default=30, metadata={"help": "debias: at most so many rounds", "range": "1 to 30"})
    num_images: int = field(default=10, metadata={"help": "debias: images a round and concept"})
    step_size: float = field(
        default=1.0,
        metadata={"help": "debias: how far targets move for a share that is off by one", "range": "0.1 to 1"},
    )
    max_difference: float = field(default=0.05, metadata={"help": "debias: how far a share may be off"})
    guidance_scale: float = field(default=7.5, metadata={"help": "debias: guidance scale of the images"})
    classifier: str = field(
        default="pocket-clip", metadata={"help": "debias: pocket-clip, or the folder of a CLIP model"}
    )
    edit_format: str = field(
        default="low_rank", metadata={"help": "how the edit is kept: low_rank (a LoRA) or filter (of the states)"}
    )


PRESETS: dict[str, dict[str, object]] = {
    "paper": {},
    "released": {
        "token_positions": "last",
        "preserve_positions": "last",
        "preserve_scale": 1.0,
        "preserve_empty_prompt": False,
        "bos_anchor": True,
    },
    "pocket": {"num_templates": 66, "preserve_scale": 3.0, "ridge": 50.0},
}


def uce(model: EditableModel, concepts: Sequence[Concept], config: Config, run: Run) -> Erasure:
    """Redirect the concepts to their anchors; one solve for all of them."""
    found = statistics(model, concepts, config)
    if config.attributes:
        found = debias_targets(model, concepts, found, config, run)
    return solve(model, found, config, run)


def statistics(
    model: EditableModel, concepts: Sequence[Concept], config: Config, known: Collection[str] = ()
) -> Statistics:
    """The states of the concepts' tokens and anchors, and of what must stay."""
    bank = EmbeddingCache.of(model)
    pairs = tuple(
        build_pairs(bank, concept_prompts(c, config.num_templates), config.token_positions, config.bos_anchor)
        for c in concepts
    )
    texts = [
        *([""] if config.preserve_empty_prompt else []),
        *(prompt for concept in concepts for prompt in concept.retain_prompts),
    ]
    return Statistics(pairs, PreservedStates.of(bank, texts, whole=config.preserve_positions == "all", known=known))


def debias_targets(
    model: EditableModel, concepts: Sequence[Concept], found: Statistics, config: Config, run: Run
) -> Statistics:
    """Targets that make the concepts' images show the attributes equally often."""
    bank, scorer = EmbeddingCache.of(model), load_scorer(config.classifier, model.device)
    rows = [[concept_prompts(replace(c, anchor=a), config.num_templates) for a in config.attributes] for c in concepts]
    towards = [torch.stack([build_pairs(bank, row, config.token_positions).anchor for row in own]) for own in rows]
    pairs = [
        replace(own, anchor=own.source.clone())
        for own in (build_pairs(bank, each[0], config.token_positions) for each in rows)
    ]
    desired = torch.full((len(config.attributes),), 1 / len(config.attributes), dtype=torch.float64)
    targets = {concept.name: own.anchor for concept, own in zip(concepts, pairs, strict=True)}
    for turn in run.steps(config.max_rounds, targets, torch.optim.SGD(targets.values()), phase="debias", every=1):
        edit = build_problem(model, replace(found, pairs=tuple(pairs)), config).solve()
        off = []
        for i, concept in enumerate(concepts):
            prompts, seed = concept.render_prompts(), run.seed_for("debias", turn.index, i) % 2**31
            with PromptFilter(model, edit.matrix()).on():
                drawn = model.sample(
                    [prompts[n % len(prompts)] for n in range(config.num_images)], seeds=range(seed, seed + config.num_images),
                    guidance_scale=config.guidance_scale,
                )  # fmt: skip
            off.append(desired - class_frequencies(scorer, drawn, config.attributes))
        turn.losses["largest"] = max(float(o.abs().max()) for o in off)
        if turn.losses["largest"] < config.max_difference:
            run.record("balanced", {"rounds": turn.index, **turn.losses})
            break
        for own, o, c in zip(pairs, off, towards, strict=True):
            if float(o.abs().max()) >= config.max_difference:
                own.anchor.add_(config.step_size * torch.einsum("p,pdm->dm", o, c))
    return replace(found, pairs=tuple(pairs))


def solve(model: EditableModel, found: Statistics, config: Config, run: Run) -> Erasure:
    """The erasure from what `statistics` gives."""
    problem = build_problem(model, found, config)
    solution = problem.solve()
    run.record("solve", diagnose(problem, solution, model.parameter_group(config.target_modules).parameters).numbers())
    edit, tensors = to_edit(model, solution, config.target_modules, config.edit_format)
    return run.erasure([edit], {**tensors, **found.tensors()})


def build_problem(model: EditableModel, found: Statistics, config: Config) -> Problem:
    """The problem that is solved."""
    scale = config.preserve_scale or max(0.1, 1 / max(len(found.kept.texts), 1))
    preserve = found.kept.preserve(scale)
    if config.gram_folder:
        preserve = preserve.with_gram(GramAccumulator.load(config.gram_folder).of(model), config.gram_scale)
    return Problem(Pairs.cat(found.pairs).scaled(config.erase_scale), preserve, config.ridge)
