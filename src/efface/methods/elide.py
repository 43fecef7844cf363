"""ELIDE: trains a text encoder to read a prompt as if the concept were not in it, and every other word as before.

A method of this project, without a publication (``docs/methods/elide.md``). Only the text encoder E is trained, and no
training step runs the denoiser. E* is the original, c the concept, d a domain word, p a prompt, v another word of the
vocabulary, r a retain prompt, |.|_M the metric in which the denoiser reads states, s the similarity that belongs to it,
and T(p) = align(E*(p without c), p):

    d   <- words that CLIP's image tower reads from the original's images of c                 domain words
    for each step:
        a   <- argmax over the embeddings around c of  s(E(p), E*(c))                         attack, warm-started
        L_s <- mean |E(p) - T(p)|_M^2 / |E*(p) - T(p)|_M^2        over prompts with c, with a, with d
        L_v <- mean |E(p) - E*(p)|_M^2 / |E*("") - E*(p)|_M^2     over prompts with v
        L_r <- the same                                           over r and the empty prompt
        E   <- Adam( L_s(c) + L_s(a) + L_s(d) + vocabulary_weight L_v + retain_weight L_r )

On FLUX and SD3 E is CLIP and T5, trained together: each L is the mean over T5's states, CLIP's pooled state and SD3's
CLIP states. CLIP's states before the concept stay, since it is causal; T5's take those of the prompt without the
concept in another order, which the transformer does not see (`efface.ops.text.state_alignment`).

Half of the prompts with d and half of the words v are those with the largest loss when last measured. The words nearest
to the concept's name are neither erased nor held: some are synonyms that nobody named, others neighbours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from efface.core.concept import Concept
from efface.core.erasure import Erasure
from efface.core.method_card import MethodCard
from efface.detectors.zero_shot import load_scorer
from efface.models.editable import EditableModel
from efface.ops.adversarial.embedding_attack import EmbeddingAttack
from efface.ops.adversarial.warm_start import WarmStartBuffer
from efface.ops.elide.conditioning_distance import ConditioningDistance
from efface.ops.elide.denoiser_mining import mine_words_by_denoiser
from efface.ops.elide.image_mining import mine_words_from_images
from efface.ops.elide.state_targets import StateTargets
from efface.ops.elide.vocabulary import words_to_hold
from efface.ops.elide.vocabulary_retention import RetainedStates, VocabularyRetention
from efface.ops.text.templates import select_templates
from efface.ops.training.hard_examples import HardExampleSampler
from efface.ops.training.loop import Stateful
from efface.ops.training.run import Run
from efface.ops.training.schedule import set_learning_rate
from efface.ops.training.student import Student

CARD = MethodCard(
    name="elide",
    title="ELIDE",
    paper="efface: a method of this project, 2026",
    arxiv="",
    families=("sd1", "sd2", "sdxl", "sd3", "flux"),
    trains="the text encoder without its embeddings",
    needs_gradient=True,
    needs_images=False,
    reconstruction=False,
    summary="Trains the text encoder to read prompts as if the concept were not in them, and holds all other words.",
)


# fmt: off
@dataclass(frozen=True)
class Config:
    """ELIDE's settings; the defaults are for text encoders of Stable Diffusion's size and were not measured there."""

    steps: int = field(default=400, metadata={"help": "Number of training steps."})
    warmup_steps: int = field(default=30, metadata={"help": "Number of first steps without attack."})
    learning_rate: float = field(default=1e-5, metadata={"help": "Learning rate of the optimiser."})
    batch_size: int = field(default=8, metadata={"help": "Number of training samples per step."})
    attack_batch_size: int = field(default=8, metadata={"help": "Number of attacked prompts per step; 0: no attack."})
    attack_steps: int = field(default=10, metadata={"help": "Number of attack steps per training step."})
    restart_prob: float = field(default=0.25, metadata={"help": "Probability of an attack restart."})
    domain_batch_size: int = field(default=48, metadata={"help": "Number of prompts with domain words per step."})
    domain_images: int = field(default=128, metadata={"help": "Number of images to read domain words from; 0: none."})
    image_tower: str = field(default="", metadata={"help": "CLIP model that reads the images: folder or hub id, such as openai/clip-vit-large-patch14; empty: the denoiser reads them, which misses more words."})  # noqa: E501
    num_templates: int = field(default=24, metadata={"help": "Number of templates from the library.", "range": "0 (all) to 66"})  # noqa: E501
    vocabulary_weight: float = field(default=10.0, metadata={"help": "Weight of the held words' loss."})
    vocabulary_batch_size: int = field(default=32, metadata={"help": "Number of prompts with held words per step."})
    ambiguous_fraction: float = field(default=0.02, metadata={"help": "Fraction of the vocabulary, nearest to the name, that is neither erased nor held."})  # noqa: E501
    retain_weight: float = field(default=10.0, metadata={"help": "Weight of the retain prompts' loss."})
    measure_every: int = field(default=10, metadata={"help": "Number of steps between two searches for the hardest prompts."})  # noqa: E501


PRESETS: dict[str, dict[str, object]] = {
    "paper": {},
    "pocket": {"learning_rate": 8e-4, "image_tower": "pocket-clip", "num_templates": 48},
}
# fmt: on


def elide(model: EditableModel, concepts: Sequence[Concept], config: Config, run: Run) -> Erasure:
    """Erases ``concepts`` together."""
    student, distance = Student(model, "text_all"), ConditioningDistance(model)
    templates = {c.name: select_templates(c, config.num_templates) for c in concepts}
    mined = {concept.name: find_domain_words(model, concept, config, run) for concept in concepts}
    named = StateTargets(model, {word: templates[c.name] for c in concepts for word in c.words}, distance)
    phrases = {word: templates[name] for name, words in mined.items() for word in words}
    domain = StateTargets(model, phrases, distance) if phrases else None
    words = words_to_hold(model, concepts, phrases, config.ambiguous_fraction)
    held = VocabularyRetention(student, distance, words, templates[concepts[0].name])
    retained = RetainedStates(student, distance, [p for c in concepts for p in c.retain_prompts])
    attack = EmbeddingAttack("recover_concept", 0.0, config.attack_steps, 0.3)
    attacks = WarmStartBuffer(attack, named.prompt_tokens, named.concept_only, model, config.restart_prob)
    hardest = HardExampleSampler(len(domain) if domain else 0)
    optimiser = torch.optim.Adam(student.parameters(), config.learning_rate)
    state: dict[str, Stateful] = {"attacks": attacks, "vocabulary": held.sampler, "domain": hardest}
    for step in run.steps(config.steps, student.trainable_params, optimiser, extra_state=state):
        set_learning_rate(optimiser, config.learning_rate, "cosine", step.index, config.steps)
        if step.index % config.measure_every == 0:
            held.measure(run.generator("vocabulary"))
            if domain:
                hardest.update(domain.all_losses(student))
        rows = torch.randint(len(named), (config.batch_size,), generator=run.generator("concept"))
        parts = {"concept": named.losses(student, rows).mean()}
        if step.index >= config.warmup_steps and config.attack_batch_size:
            rows = torch.randint(len(named), (config.attack_batch_size,), generator=run.generator("attack"))
            soft, _ = attacks.attack(rows, student, run.generator("restart"))
            parts["attack"] = named.losses(student, rows, soft).mean()
        if domain:
            rows = hardest.sample(config.domain_batch_size, run.generator("domain"))
            parts["domain"] = domain.losses(student, rows).mean()
        loss = torch.stack(list(parts.values())).sum()
        parts["vocabulary"] = held.loss(config.vocabulary_batch_size, run.generator("vocabulary"))
        parts["retain"] = retained.loss()
        loss = loss + config.vocabulary_weight * parts["vocabulary"] + config.retain_weight * parts["retain"]
        step.optimize(loss, {name: part.detach() for name, part in parts.items()})
    run.notes |= {"domain_words": mined, "most_drifted_words": held.most_drifted()}
    return run.erasure(*student.replace_edits())


def find_domain_words(model: EditableModel, concept: Concept, config: Config, run: Run) -> list[str]:
    """Returns the words that the concept's images show, by CLIP or without one by the denoiser; a style has none."""
    seed, count = run.seed_for("images", concept.name), config.domain_images
    if not count or concept.kind == "style":
        return []
    if not config.image_tower:
        return mine_words_by_denoiser(model, concept, count=24, num_images=count, seed=seed, progress=run.progress)
    tower = load_scorer(config.image_tower, model.device)
    return mine_words_from_images(model, tower, concept, num_images=count, seed=seed, progress=run.progress)
