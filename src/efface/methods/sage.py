"""SAGE: semantic-augment erasing (Zhu et al., arXiv 2506.09363); a reconstruction, not the geometric regularisation of the same name.

No code is public; what the paper leaves open was decided by measurement (``docs/methods/sage.md``). Only the text encoder E is trained;
the denoiser e is frozen, so that the purified encoder drops into every model that shares it. With E* the original, c the concept, p a
sentence with it, r the retained prompts and "" among them:

    for each step:
        p   <- sentences from the library                                                       warm-up, and beside what is found
        p   <- argmax over their token embeddings of domain s(E*(p), E*(c)) + term(E, E*)       self-check: J steps, inside-out
        L_e <- || e(z_t, t, E(p)) - target(p, c) ||^2                                           self-erasure, of both
        L_g <- mean_ij ( cos(E(r_i), E*(r_j)) - cos(E*(r_i), E*(r_j)) )^2                       global retention: the graph
        L_l <- || e(z'_t, t, E(r)) - e(z'_t, t, E*(r)) ||^2  over the Top-K that drift most     local retention
        L_s <- | E(p) - E*(p without c) |^2 / | E*(p) - E*(p without c) |^2                     what it says, token by token
        L_m <- || e(z_t, t, E(p with v)) - e(z_t, t, E*(p with v)) ||^2                         made-up words v in c's place
        E   <- Adam( L_e + said L_s + gamma L_g + local L_l + made_up L_m )

    target   concept   e(z_t, t, "") - eta ( e(z_t, t, E*(c)) - e(z_t, t, "") )                 ESD's negative guidance
             prompt    the same with E*(p)
             rest      e(z_t, t, E*(p)) - (eta + 1) ( e(z_t, t, E*(c)) - e(z_t, t, "") )        keeps the rest of the sentence
             without   e(z_t, t, E*(p without c)) - eta ( e(z_t, t, E*(c)) - e(z_t, t, "") )    the sentence that does not name it

z_t comes from pooled trajectories of the original. With ``words`` > 0, plain sentences with words of its own that the model draws a domain
by are erased, too (`efface.ops.elide.domain_words`); the search stays with the concept's name.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from efface.core.concept import Concept
from efface.core.erasure import Erasure
from efface.core.errors import EffaceError, UnknownNameError
from efface.core.method_card import MethodCard
from efface.models.editable import EditableModel
from efface.ops.adversarial.embedding_attack import EmbeddingAttack
from efface.ops.adversarial.warm_start import WarmStartBuffer
from efface.ops.elide.domain_words import MiningConfig, mine_domain_words
from efface.ops.elide.pseudo_words import PseudoWords
from efface.ops.elide.state_loss import ErasureLoss
from efface.ops.retention.relation_graph import RelationGraphLoss
from efface.ops.retention.retain_set import RetainSet, top_k_drift
from efface.ops.text.concept_prompts import TARGETS, ConceptPrompts
from efface.ops.text.similarity import Similarity
from efface.ops.text.soft_prompts import embedding_table
from efface.ops.text.templates import select_templates
from efface.ops.training.run import Run
from efface.ops.training.schedule import set_learning_rate
from efface.ops.training.student import Student
from efface.ops.training.trajectory_config import TrajectoryConfig

CARD = MethodCard(
    name="sage",
    title="SAGE (semantic-augment erasing)",
    paper="Zhu et al.: SAGE: Exploring the Boundaries of Unsafe Concept Domain with Semantic-Augment Erasing, 2025",
    arxiv="2506.09363",
    families=("sd1", "sd2", "sdxl"),
    trains="the text encoder without its embeddings",
    needs_gradient=True,
    needs_images=False,
    reconstruction=True,
    summary="Searches, from the concept outwards, for what the text encoder still lets through, and erases that: a cycle.",
)


@dataclass(frozen=True)
class Config:
    """SAGE's hyper-parameters; the defaults are the paper's where it states them."""

    target_modules: str = field(
        default="text_all",
        metadata={"help": "what is trained of the text encoder: text_all, text_layers:0-3, text_mlp"},
    )
    steps: int = field(default=1000, metadata={"help": "training steps, the warm-up's included"})
    warmup_steps: int = field(default=200, metadata={"help": "first steps, on plain sentences without a search"})
    learning_rate: float = field(default=1e-5, metadata={"help": "Adam's learning rate"})
    schedule: str = field(default="constant", metadata={"help": "of the learning rate: constant or cosine"})
    batch_size: int = field(default=4, metadata={"help": "sentences a step and concept"})
    negative_guidance: float = field(default=1.0, metadata={"help": "strength of the negative guidance"})
    target: str = field(
        default="neg_prompt",
        metadata={"help": "Target prediction of a prompt: neg_concept, neg_prompt, neg_keep_context, concept_free."},
    )
    attack_steps: int = field(default=30, metadata={"help": "J, steps of a search"})
    attack_learning_rate: float = field(
        default=0.3, metadata={"help": "of the search, in units of a token embedding's norm"}
    )
    attack_tokens: str = field(
        default="template",
        metadata={"help": "what the search changes: template, or all, the concept's own tokens, too"},
    )
    random_init_prob: float = field(
        default=0.0, metadata={"help": "share of the searches that start at random words instead of a sentence's own"}
    )
    restart_prob: float = field(
        default=1.0, metadata={"help": "share of the searches that begin anew, not where the sentence's last one ended"}
    )
    clean_batch_size: int = field(
        default=4, metadata={"help": "sentences a step and concept as they are, beside those found"}
    )
    state_weight: float = field(
        default=0.0, metadata={"help": "weight of a sentence's states against those of the sentence without c"}
    )
    attack_objective: str = field(
        default="recover_concept",
        metadata={"help": "Attack objective: hide_concept, stay_unchanged, recover_concept, diverge or concept_only."},
    )
    concept_weight: float = field(
        default=1.0, metadata={"help": "weight of the part that keeps the search at the concept"}
    )
    attack_similarity: str = field(
        default="kv_distance", metadata={"help": "of the search: kv_distance, token_cosine, eos_cosine or kv_cosine"}
    )
    graph_weight: float = field(default=0.4, metadata={"help": "gamma, weight of the graph for an object or a domain"})
    graph_weight_style_identity: float = field(
        default=3.0, metadata={"help": "the same where a style or an identity is among the concepts"}
    )
    graph_reference: str = field(
        default="cross", metadata={"help": "cosines within one encoder (self) or against the original (cross)"}
    )
    local_weight: float = field(default=1.0, metadata={"help": "weight of the local retention"})
    top_k: int = field(default=4, metadata={"help": "K, retained prompts a step that keep their predicted noise"})
    pseudo_prediction_weight: float = field(
        default=0.0, metadata={"help": "weight of what sentences with made-up words show, where none is a member"}
    )
    pseudo_state_weight: float = field(
        default=0.0, metadata={"help": "the same of what they say, for domains with members as unlike the name"}
    )
    pseudo_batch_size: int = field(default=16, metadata={"help": "sentences with made-up words a step and concept"})
    synonym_min_cosine: float = field(
        default=1.0,
        metadata={"help": "cosine down to which made-up words go, too, where what they show is held; 1: none"},
    )
    pseudo_max_cosine: float = field(
        default=0.5, metadata={"help": "cosine up to which a made-up word that must stay may be like the concept's"}
    )
    retain_empty_prompt: bool = field(default=True, metadata={"help": "whether the empty prompt is retained, too"})
    template_file: str = field(
        default="", metadata={"help": "a file of sentences with {}, one a line; by default the library"}
    )
    num_templates: int = field(default=0, metadata={"help": "at most so many of the templates, evenly spread; 0: all"})
    num_domain_words: int = field(
        default=0, metadata={"help": "at most so many words that the model itself draws a domain by; 0: its name alone"}
    )
    templates_per_word: int = field(default=6, metadata={"help": "sentences with each of these"})
    domain_batch_size: int = field(default=0, metadata={"help": "how many of these a step; 0: as many as plain ones"})
    domain_candidates: str = field(
        default="all", metadata={"help": "which words are asked about: all, or those near the name and its images"}
    )
    domain_images: int = field(default=64, metadata={"help": "images of the domain that the model is asked about"})
    guidance_scale: float = field(default=3.0, metadata={"help": "guidance scale of the pooled runs"})
    num_inference_steps: int = field(default=50, metadata={"help": "DDIM steps of a run"})
    trajectories_per_prompt: int = field(default=1, metadata={"help": "pooled runs for each prompt"})


PRESETS: dict[str, dict[str, object]] = {
    "paper": {},
    "pocket": {
        "learning_rate": 4e-4, "schedule": "cosine", "steps": 250, "warmup_steps": 30, "batch_size": 8, "clean_batch_size": 8, "attack_steps": 10, "restart_prob": 0.25,
        "concept_weight": 0.3, "target": "concept_free", "negative_guidance": 0.0, "state_weight": 0.1, "graph_weight": 5.0, "graph_weight_style_identity": 5.0, "local_weight": 30.0, "top_k": 8,
        "pseudo_prediction_weight": 8.0, "pseudo_state_weight": 0.1, "pseudo_batch_size": 20, "synonym_min_cosine": 0.75, "num_inference_steps": 20, "num_templates": 24, "num_domain_words": 24,
        "domain_candidates": "near", "domain_images": 48, "domain_batch_size": 16,
    },
    "demo": {
        "learning_rate": 4e-4, "schedule": "cosine", "steps": 80, "warmup_steps": 15, "batch_size": 8, "clean_batch_size": 8, "attack_steps": 10, "restart_prob": 0.25,
        "concept_weight": 0.3, "target": "concept_free", "negative_guidance": 0.0, "state_weight": 0.1, "graph_weight": 5.0, "graph_weight_style_identity": 5.0, "local_weight": 30.0, "top_k": 8,
        "pseudo_prediction_weight": 6.0, "pseudo_state_weight": 0.1, "pseudo_batch_size": 16, "synonym_min_cosine": 0.75, "num_inference_steps": 20, "num_templates": 24, "num_domain_words": 16,
        "domain_candidates": "near", "domain_images": 24, "domain_batch_size": 16,
    },
}  # fmt: skip
ONE, FINE, WIDE = ("object", "identity"), ("style", "identity"), ("domain", "abstract")
ABLATION: dict[str, dict[str, object]] = {
    "default": {},
    "no attack": {"warmup_steps": 1000000},
    "no warm-up": {"warmup_steps": 0},
    "no clean prompts": {"clean_batch_size": 0},
    "no state loss": {"state_weight": 0.0},
    "no domain words": {"num_domain_words": 0},
    "domain words from all candidates": {"domain_candidates": "all", "num_domain_words": 16},
    "no pseudo-words": {"pseudo_prediction_weight": 0.0, "pseudo_state_weight": 0.0},
    "no synonyms": {"synonym_min_cosine": 1.0},
    "objective: hide_concept": {"attack_objective": "hide_concept"},
    "objective: stay_unchanged": {"attack_objective": "stay_unchanged"},
    "objective: diverge": {"attack_objective": "diverge"},
    "objective: concept_only": {"attack_objective": "concept_only"},
    "no concept term": {"concept_weight": 0.0},
    "similarity: token_cosine": {"attack_similarity": "token_cosine"},
    "similarity: eos_cosine": {"attack_similarity": "eos_cosine"},
    "similarity: kv_cosine": {"attack_similarity": "kv_cosine"},
    "attack all tokens": {"attack_tokens": "all"},
    "half of the attacks start randomly": {"random_init_prob": 0.5},
    "30 attack steps": {"attack_steps": 30},
    "restart every attack": {"restart_prob": 1.0},
    "no relation graph": {"graph_weight": 0.0, "graph_weight_style_identity": 0.0},
    "graph within the edited encoder": {"graph_reference": "self"},
    "no local retention": {"local_weight": 0.0},
    "4 local retain prompts": {"top_k": 4},
    "empty prompt not retained": {"retain_empty_prompt": False},
    "target: neg_keep_context": {"target": "neg_keep_context", "negative_guidance": 2.0},
    "target: neg_prompt": {"target": "neg_prompt", "negative_guidance": 2.0},
    "target: neg_concept": {"target": "neg_concept", "negative_guidance": 2.0},
    "constant learning rate": {"schedule": "constant"},
}


def sage(model: EditableModel, concepts: Sequence[Concept], config: Config, run: Run) -> Erasure:
    """Erase the domains of ``concepts``, one search per concept and step."""
    check_concepts(config, concepts)
    runs, student = (
        TrajectoryConfig(config.trajectories_per_prompt, config.num_inference_steps, config.guidance_scale),
        Student(model, config.target_modules),
    )
    cycles = [ConceptLosses(student, concept, config, runs, run) for concept in concepts]
    retained = RetainSet.from_concepts(
        model, concepts, runs, with_empty_prompt=config.retain_empty_prompt, seed=run.seed_for("retained")
    )
    graph_of, gamma = RelationGraphLoss(retained.original, config.graph_reference), max(cycle.gamma for cycle in cycles)
    optimiser, extra = (
        torch.optim.Adam(student.parameters(), config.learning_rate),
        {f"searches-{i}": c.earlier for i, c in enumerate(cycles)},
    )
    for step in run.steps(config.steps, student.trainable_params, optimiser, extra_state=extra):
        set_learning_rate(optimiser, config.learning_rate, config.schedule, step.index, config.steps)
        asked = [cycle.losses(step.index) for cycle in cycles]
        parts = {name: torch.stack([part[name] for part in asked]).mean() for name in asked[0]}
        now = student.encode(retained.tokens)
        drifted = top_k_drift(now, retained.original, config.top_k, always_included=retained.empty_prompt_index)
        parts |= {
            "graph": graph_of(now),
            "local": retained.prediction_loss(student, now, drifted, run.generator("retain")),
        }
        kept = gamma * parts["graph"] + config.local_weight * parts["local"] + parts["made_up"]
        step.optimize(
            parts["erase"] + config.state_weight * parts["said"] + kept,
            {name: part.detach() for name, part in parts.items()},
        )
    return run.erasure(*student.replace_edits())


class ConceptLosses:
    """One concept's self-check and self-erasure, and the made-up words around it."""

    def __init__(self, student: Student, concept: Concept, config: Config, runs: TrajectoryConfig, run: Run) -> None:
        self.student, self.config, self.run, self.made_up = (
            student,
            config,
            run,
            PseudoWords(student, config.pseudo_max_cosine),
        )
        model, sentences, each = (
            student.model,
            select_templates(concept.kind, config.template_file, config.num_templates),
            config.templates_per_word,
        )
        self.similarity, seed = Similarity(model, config.attack_similarity), run.seed_for("pool", concept.name)
        words, one = resolve_settings(concept, self.made_up, config, run)
        self.domain = ConceptPrompts.from_templates(
            model,
            concept.words,
            sentences,
            runs,
            seed,
            erased_phrase=concept.name,
            domain_phrases=words,
            templates_per_word=each,
        )
        search = EmbeddingAttack(
            config.attack_objective,
            config.concept_weight,
            config.attack_steps,
            config.attack_learning_rate,
            config.attack_tokens,
            config.random_init_prob,
        )
        self.earlier = WarmStartBuffer(search, self.domain.prompt_tokens, embedding_table(model), config.restart_prob)
        self.gone = ErasureLoss(student, config.target, config.negative_guidance, with_states=config.state_weight > 0)
        self.hold, self.weight = (
            (self.made_up.prediction_loss, config.pseudo_prediction_weight)
            if one
            else (self.made_up.state_loss, config.pseudo_state_weight)
        )
        self.kin, self.gamma = (
            config.synonym_min_cosine if one else 1.0,
            config.graph_weight_style_identity if concept.kind in FINE else config.graph_weight,
        )

    def losses(self, step: int) -> dict[str, Tensor]:
        """L_e and L_s of the step's sentences, and the weighted L_m; what the search reached where there is one."""
        config, domain, run, asked, found, reached = (
            self.config,
            self.domain,
            self.run,
            list[tuple[Tensor, Tensor]](),
            None,
            {},
        )
        batch = domain.sample(config.batch_size, run.generator("erase"))
        if step >= config.warmup_steps:
            found, value = self.earlier.attack(
                batch.prompt_index, domain.concept_only, self.student, self.similarity, run.generator("scatter")
            )
            reached["attack"] = value.mean()
            if config.clean_batch_size:
                own = domain.sample(config.clean_batch_size, run.generator("plain"))
                asked.append(
                    self.gone(
                        domain,
                        own,
                        self.made_up.synonym_embeddings(
                            domain.prompt_tokens[own.prompt_index], self.kin, run.generator("kin")
                        ),
                    )
                )
        if domain.n_domain:
            asked.append(
                self.gone(
                    domain,
                    domain.sample(
                        config.domain_batch_size or config.clean_batch_size, run.generator("words"), from_domain=True
                    ),
                )
            )
        asked.append(self.gone(domain, batch, found))
        erase, said = (torch.stack(part).sum() for part in zip(*asked, strict=True))
        held = (
            self.weight * self.hold(domain, config.pseudo_batch_size, run.generator("made-up"))
            if self.weight
            else torch.zeros_like(erase)
        )
        return {"erase": erase, "said": said, "made_up": held, **reached}


def resolve_settings(concept: Concept, made_up: PseudoWords, config: Config, run: Run) -> tuple[list[str], bool]:
    """The words that the model draws a domain by, and whether made-up words may be held as an object's are: most lie beyond these."""
    count, model, seed = (
        config.num_domain_words if config.clean_batch_size and concept.kind in WIDE else 0,
        made_up.student.model,
        run.seed_for("words"),
    )
    mining = MiningConfig(count, num_images=config.domain_images, candidates=config.domain_candidates)
    own = mine_domain_words(model, concept, mining, seed=seed, progress=run.progress)
    words = [found.word for found in own]
    return words, concept.kind in ONE or made_up.fraction_within(concept.name, words) > 0.5


def check_concepts(config: Config, concepts: Sequence[Concept]) -> None:
    """What can be wrong with a configuration for these concepts.

    Raises:
        UnknownName: a target that is none.
        EffaceError: sites outside of the text encoder, a negative warm-up, or fewer retain prompts than the retention needs.
    """
    if config.target not in TARGETS:
        raise UnknownNameError("target", config.target, TARGETS)
    if not config.target_modules.startswith("text"):
        raise EffaceError(
            f"SAGE trains the text encoder, not {config.target_modules!r}: set target_modules to text_all, text_layers:0-3 or text_mlp"
        )
    if config.warmup_steps < 0:
        raise EffaceError(f"a warm-up of {config.warmup_steps} steps is impossible: set warmup_steps to 0 or more")
    found, needed = (
        len({prompt for concept in concepts for prompt in concept.retain_prompts}),
        max(config.top_k, 1 if config.retain_empty_prompt else 2),
    )
    if found < needed:
        raise EffaceError(
            f"SAGE retains by at least {needed} retain prompts, and there are {found}: give them with --retain-file"
        )
