"""CRCE: coreference-retention concept erasure (Xue et al., BMVC 2025, arXiv 2503.14232).

ESD forgets one name: other names of the concept still give it, and neighbours suffer. CRCE extends ESD's loss by
coreferents x_i, which are erased too, and retained neighbours r_j, which are held:

    T(x) =  e*(z_t, t, "") - eta ( e*(z_t, t, x) - e*(z_t, t, "") )
    L    =  || e(z_t, t, c) - T(c) ||^2  +  alpha / M sum_i w_i || e(z_t, t, x_i) - T(x_i) ||^2
            +  beta / N sum_j w_j || e(z_t, t, r_j) - e*(z_t, t, r_j) ||^2

for M coreferents and N retained words, drawn anew for each sample without replacement, all at one z_t of a guided
trajectory for the concept c. w is how certain a word is. alpha = ``coreferent_weight``, beta = ``retained_weight``,
eta = ``negative_guidance``.

In the paper a language model writes the lists. Here they come from ``coreference_file``; `efface coreferences` proposes
one, from a language model at an endpoint that the user names or from the model's own vocabulary, to read and edit.
Without a file, the method reads the vocabulary itself, as ELIDE finds its domain words, and the erasure lists them.

Differences: the original samples the trajectories, and their points are pooled; the paper's student samples before
every step. A word replaces the concept in the prompt at hand ("a photo of a weapon"), so that each loss sees the same
rest of the prompt. ``erase_from`` and ``num_templates`` are ESD's; ``retain_weight`` weighs AdvUnlearn's loss over
retain prompts (arXiv 2405.15234), which the paper does not have. The published code adds 0 where it means to vary the
certainties, and fails with fewer words than M or N; there is no preset ``released``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from efface.core.concept import Concept
from efface.core.coreferences import Coreferences, read_coreferences
from efface.core.erasure import Erasure
from efface.core.method_card import MethodCard
from efface.detectors.zero_shot import load_scorer
from efface.models.editable import EditableModel
from efface.models.protocol import Conditioning
from efface.ops.elide.vocabulary_coreferences import coreferences_from_vocabulary
from efface.ops.retention.retain_set import RetainSet
from efface.ops.targets import negative_guidance
from efface.ops.text.coreference_prompts import CoreferencePrompts, WordBatch
from efface.ops.text.erase_prompts import ErasePrompts
from efface.ops.training.run import Run
from efface.ops.training.schedule import set_learning_rate
from efface.ops.training.student import Student
from efface.ops.training.trajectory_config import TrajectoryConfig
from efface.ops.training.trajectory_pool import TrajectoryBatch

CARD = MethodCard(
    name="crce",
    title="CRCE",
    paper="Xue, Moroshko, Chen, Sun, McDonagh, Tsaftaris: CRCE: Coreference-Retention Concept Erasure in Text-to-Image "
    "Diffusion Models, BMVC 2025",
    arxiv="2503.14232",
    families=("sd1", "sd2", "sdxl"),
    trains="cross-attention queries and keys",
    needs_gradient=True,
    needs_images=False,
    reconstruction=False,
    summary="Erases the concept with its coreferents and holds its neighbours, from lists to read and edit.",
)


@dataclass(frozen=True)
class Config:
    """CRCE's hyper-parameters; the defaults are the paper's."""

    target_modules: str = field(
        default="cross_qk", metadata={"help": "Parameter group to change.", "range": "cross_qk, cross_all, attn_all"}
    )
    steps: int = field(default=500, metadata={"help": "Number of training steps.", "range": "200 to 500"})
    learning_rate: float = field(default=2e-5, metadata={"help": "Learning rate of the optimiser."})
    schedule: str = field(default="constant", metadata={"help": "Learning-rate schedule: constant or cosine."})
    batch_size: int = field(default=1, metadata={"help": "Number of training samples per step."})
    coreference_file: str = field(
        default="", metadata={"help": "YAML file of coreferents and retained words; empty: read the vocabulary."}
    )
    num_coreferents: int = field(default=5, metadata={"help": "Number M of coreferents per sample."})
    num_retained: int = field(default=3, metadata={"help": "Number N of retained words per sample."})
    coreferent_weight: float = field(default=1.0, metadata={"help": "Weight alpha of the coreferents' loss."})
    retained_weight: float = field(
        default=1.0, metadata={"help": "Weight beta of the retained words' loss.", "range": "1 to 20"}
    )
    negative_guidance: float = field(default=1.0, metadata={"help": "Strength eta of the negative guidance."})
    guidance_scale: float = field(default=3.0, metadata={"help": "Classifier-free guidance scale of the sampler."})
    num_inference_steps: int = field(default=50, metadata={"help": "Number of steps of the sampler."})
    trajectories_per_prompt: int = field(default=8, metadata={"help": "Number of pooled trajectories per prompt."})
    erase_from: bool = field(default=False, metadata={"help": "Keep the rest of the prompt: start from e*(f)."})
    num_templates: int = field(
        default=0, metadata={"help": "Number of templates from the library.", "range": "0 to 66"}
    )
    retain_weight: float = field(default=0.0, metadata={"help": "Weight of the retain loss.", "range": "0 to 20"})
    vocabulary_words: int = field(
        default=10, metadata={"help": "Number of words of each list read from the vocabulary."}
    )
    domain_images: int = field(default=128, metadata={"help": "Number of images to read coreferents from."})
    image_tower: str = field(
        default="", metadata={"help": "CLIP model that reads the images: folder or hub id; empty: the denoiser."}
    )


PRESETS: dict[str, dict[str, object]] = {
    "paper": {},
    "pocket": {
        "target_modules": "attn_all",
        "learning_rate": 1e-3,
        "schedule": "cosine",
        "steps": 300,
        "batch_size": 3,
        "num_coreferents": 2,
        "num_retained": 2,
        "retained_weight": 5.0,
        "negative_guidance": 3.0,
        "num_inference_steps": 20,
        "trajectories_per_prompt": 1,
        "erase_from": True,
        "num_templates": 66,
        "retain_weight": 5.0,
        "image_tower": "pocket-clip",
    },
}


def crce(model: EditableModel, concepts: Sequence[Concept], config: Config, run: Run) -> Erasure:
    """Erases the concepts with their coreferents; several concepts share the steps evenly."""
    words = _coreferences(model, concepts, config, run)
    trajectories = TrajectoryConfig(config.trajectories_per_prompt, config.num_inference_steps, config.guidance_scale)
    erase = ErasePrompts.from_concepts(model, concepts, config.num_templates, trajectories, run.seed_for("pool"))
    owners = {word: concept.name for concept in concepts for word in concept.words}
    by_prompt = [words[owners[phrase]] for phrase in erase.phrases]
    coreferents = CoreferencePrompts(model, erase, [w.coreferents for w in by_prompt], config.num_coreferents)
    retained = CoreferencePrompts(model, erase, [w.retained for w in by_prompt], config.num_retained)
    student = Student(model, config.target_modules)
    retain_set = RetainSet.if_weighted(config.retain_weight, model, concepts, trajectories, run)
    optimiser = torch.optim.Adam(student.parameters(), lr=config.learning_rate)
    for step in run.steps(config.steps, student.trainable_params, optimiser):
        set_learning_rate(optimiser, config.learning_rate, config.schedule, step.index, config.steps)
        batch = erase.pool.sample(config.batch_size, run.generator("batch"))
        named = coreferents.draw(batch, run.generator("coreferents"))
        held = retained.draw(batch, run.generator("held"))
        losses = _losses(student, erase, batch, named, held, config)
        loss = losses["concept"] + config.coreferent_weight * losses["coreferents"]
        loss = loss + config.retained_weight * losses["retained"]
        if retain_set is not None:
            losses["retain"] = retain_set.random_loss(student, config.batch_size, run.generator("retain"))
            loss = loss + config.retain_weight * losses["retain"]
        step.optimize(loss, {name: part.detach() for name, part in losses.items()})
    return run.erasure(*student.replace_edits())


def _losses(
    student: Student, erase: ErasePrompts, batch: TrajectoryBatch, named: WordBatch, held: WordBatch, config: Config
) -> dict[str, Tensor]:
    """Computes the losses of the concept, of the coreferents ``named`` and of the retained words ``held``."""
    eta, e_0 = config.negative_guidance, batch.unconditional[named.rows]
    with torch.no_grad():
        e_x, e_r = (student.model.predict(part.z, part.t, part.cond).value for part in (named, held))
        if config.erase_from:
            e_word = student.model.predict(named.z, named.t, named.word_cond).value
            named_target = negative_guidance(e_x, e_word, e_0, eta + 1)
        else:
            named_target = negative_guidance(e_0, e_x, e_0, eta)
    target = erase.negative_target(batch, eta, erase_from=config.erase_from)
    z, t = torch.cat([batch.z, named.z, held.z]), torch.cat([batch.t, named.t, held.t])
    predicted = student.predict(z, t, Conditioning.cat([batch.cond, named.cond, held.cond])).value
    errors = (predicted - torch.cat([target, named_target, e_r])).square().flatten(1).mean(1)
    of_concept, of_named, of_held = errors.tensor_split([len(batch.z), len(batch.z) + len(named.z)])
    return {
        "concept": of_concept.mean(),
        "coreferents": (of_named * named.weights).mean(),
        "retained": (of_held * held.weights).mean(),
    }


def _coreferences(
    model: EditableModel, concepts: Sequence[Concept], config: Config, run: Run
) -> dict[str, Coreferences]:
    """Reads the words of each concept from the file, or from the vocabulary, and notes them."""
    if config.coreference_file:
        words = read_coreferences(config.coreference_file, concepts)
    else:
        tower = load_scorer(config.image_tower, model.device) if config.image_tower else None
        words = coreferences_from_vocabulary(
            model, concepts, tower, count=config.vocabulary_words, num_images=config.domain_images, seed=run.seed,
            progress=run.progress,
        )  # fmt: skip
    run.notes["domain_words"] = {name: list(found.coreferents) for name, found in words.items()}
    run.notes["retained_words"] = {name: list(found.retained) for name, found in words.items()}
    return words
