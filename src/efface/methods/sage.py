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
from efface.core.errors import EffaceError, UnknownName
from efface.core.method_card import Card
from efface.models.editable import Editable
from efface.ops.adversarial.embedding_attack import Search
from efface.ops.adversarial.warm_start import Earlier
from efface.ops.elide.domain_words import own_words
from efface.ops.elide.pseudo_words import MadeUpWords
from efface.ops.elide.state_loss import SelfErasure
from efface.ops.retention.relation_graph import Graph, Retained, most_drifted
from efface.ops.text.concept_prompts import TARGETS, Runs, Sentences
from efface.ops.text.similarity import Similarity
from efface.ops.text.soft_prompts import embedding_table
from efface.ops.text.templates import chosen
from efface.ops.training.run import Run
from efface.ops.training.schedule import learning_rate
from efface.ops.training.student import Student

CARD = Card(
    name="sage",
    title="SAGE (semantic-augment erasing)",
    paper="Zhu et al.: SAGE: Exploring the Boundaries of Unsafe Concept Domain with Semantic-Augment Erasing, 2025",
    arxiv="2506.09363",
    families=("sd1", "sd2", "sdxl"),
    trains="the text encoder without its embeddings",
    needs_gradient=True,
    needs_images=False,
    vram={},
    minutes={},
    reconstruction=True,
    summary="Searches, from the concept outwards, for what the text encoder still lets through, and erases that: a cycle.",
)


@dataclass(frozen=True)
class Config:
    """SAGE's hyper-parameters; the defaults are the paper's where it states them."""

    sites: str = field(
        default="text_all",
        metadata={"help": "what is trained of the text encoder: text_all, text_layers:0-3, text_mlp"},
    )
    steps: int = field(default=1000, metadata={"help": "training steps, the warm-up's included"})
    warmup: int = field(default=200, metadata={"help": "first steps, on plain sentences without a search"})
    lr: float = field(default=1e-5, metadata={"help": "Adam's learning rate"})
    schedule: str = field(default="constant", metadata={"help": "of the learning rate: constant or cosine"})
    batch: int = field(default=4, metadata={"help": "sentences a step and concept"})
    eta: float = field(default=1.0, metadata={"help": "strength of the negative guidance"})
    target: str = field(
        default="prompt", metadata={"help": "what is learned for a sentence: concept, prompt, rest or without"}
    )
    attack_steps: int = field(default=30, metadata={"help": "J, steps of a search"})
    attack_lr: float = field(default=0.3, metadata={"help": "of the search, in units of a token embedding's norm"})
    free: str = field(
        default="template",
        metadata={"help": "what the search changes: template, or all, the concept's own tokens, too"},
    )
    scatter: float = field(
        default=0.0, metadata={"help": "share of the searches that start at random words instead of a sentence's own"}
    )
    anew: float = field(
        default=1.0, metadata={"help": "share of the searches that begin anew, not where the sentence's last one ended"}
    )
    plain: int = field(default=4, metadata={"help": "sentences a step and concept as they are, beside those found"})
    said: float = field(
        default=0.0, metadata={"help": "weight of a sentence's states against those of the sentence without c"}
    )
    objective: str = field(
        default="c", metadata={"help": "what the search maximises beside the domain: a, b, c, d, or domain for nothing"}
    )
    domain: float = field(default=1.0, metadata={"help": "weight of the part that keeps the search at the concept"})
    similarity: str = field(default="sentence", metadata={"help": "of the search: sentence, tokens, eos or kv"})
    graph: float = field(default=0.4, metadata={"help": "gamma, weight of the graph for an object or a domain"})
    graph_fine: float = field(
        default=3.0, metadata={"help": "the same where a style or an identity is among the concepts"}
    )
    graph_form: str = field(
        default="cross", metadata={"help": "cosines within one encoder (self) or against the original (cross)"}
    )
    local: float = field(default=1.0, metadata={"help": "weight of the local retention"})
    top: int = field(default=4, metadata={"help": "K, retained prompts a step that keep their predicted noise"})
    made_up: float = field(
        default=0.0, metadata={"help": "weight of what sentences with made-up words show, where none is a member"}
    )
    made_up_wide: float = field(
        default=0.0, metadata={"help": "the same of what they say, for domains with members as unlike the name"}
    )
    made_up_batch: int = field(default=16, metadata={"help": "sentences with made-up words a step and concept"})
    kin: float = field(
        default=1.0,
        metadata={"help": "cosine down to which made-up words go, too, where what they show is held; 1: none"},
    )
    reach: float = field(
        default=0.5, metadata={"help": "cosine up to which a made-up word that must stay may be like the concept's"}
    )
    pin_empty: bool = field(default=True, metadata={"help": "whether the empty prompt is retained, too"})
    templates: str = field(
        default="", metadata={"help": "a file of sentences with {}, one a line; by default the library"}
    )
    sentences: int = field(default=0, metadata={"help": "at most so many of the templates, evenly spread; 0: all"})
    words: int = field(
        default=0, metadata={"help": "at most so many words that the model itself draws a domain by; 0: its name alone"}
    )
    words_sentences: int = field(default=6, metadata={"help": "sentences with each of these"})
    words_batch: int = field(default=0, metadata={"help": "how many of these a step; 0: as many as plain ones"})
    words_asked: str = field(
        default="all", metadata={"help": "which words are asked about: all, or those near the name and its pictures"}
    )
    words_pictures: int = field(default=64, metadata={"help": "pictures of the domain that the model is asked about"})
    guidance: float = field(default=3.0, metadata={"help": "guidance scale of the pooled runs"})
    sampler_steps: int = field(default=50, metadata={"help": "DDIM steps of a run"})
    runs: int = field(default=1, metadata={"help": "pooled runs for each prompt"})


PRESETS: dict[str, dict[str, object]] = {
    "paper": {},
    "pocket": {
        "lr": 4e-4, "schedule": "cosine", "steps": 250, "warmup": 30, "batch": 8, "plain": 8, "attack_steps": 10, "anew": 0.25,
        "domain": 0.3, "target": "without", "eta": 0.0, "said": 0.1, "graph": 5.0, "graph_fine": 5.0, "local": 30.0, "top": 8,
        "made_up": 8.0, "made_up_wide": 0.1, "made_up_batch": 20, "kin": 0.75, "sampler_steps": 20, "sentences": 24, "words": 24,
        "words_asked": "near", "words_pictures": 48, "words_batch": 16,
    },
    "demo": {
        "lr": 4e-4, "schedule": "cosine", "steps": 80, "warmup": 15, "batch": 8, "plain": 8, "attack_steps": 10, "anew": 0.25,
        "domain": 0.3, "target": "without", "eta": 0.0, "said": 0.1, "graph": 5.0, "graph_fine": 5.0, "local": 30.0, "top": 8,
        "made_up": 6.0, "made_up_wide": 0.1, "made_up_batch": 16, "kin": 0.75, "sampler_steps": 20, "sentences": 24, "words": 16,
        "words_asked": "near", "words_pictures": 24, "words_batch": 16,
    },
}  # fmt: skip
ONE, FINE, WIDE = ("object", "identity"), ("style", "identity"), ("domain", "abstract")
ABLATION: dict[str, dict[str, object]] = {
    "as it is": {}, "no search": {"warmup": 1_000_000}, "no warm-up": {"warmup": 0}, "no plain sentences": {"plain": 0},
    "no states": {"said": 0.0}, "no own words": {"words": 0}, "own words by all": {"words_asked": "all", "words": 16},
    "no made-up words": {"made_up": 0.0, "made_up_wide": 0.0}, "no kin": {"kin": 1.0}, "search: a": {"objective": "a"},
    "search: b": {"objective": "b"}, "search: d": {"objective": "d"}, "search: domain alone": {"objective": "domain"},
    "search: c alone": {"domain": 0.0}, "similarity: tokens": {"similarity": "tokens"}, "similarity: EOS": {"similarity": "eos"},
    "similarity: kv": {"similarity": "kv"}, "all tokens free": {"free": "all"}, "half from random words": {"scatter": 0.5},
    "30 search steps": {"attack_steps": 30}, "searches anew": {"anew": 1.0}, "no graph": {"graph": 0.0, "graph_fine": 0.0},
    "graph within E": {"graph_form": "self"}, "no Top-K": {"local": 0.0}, "Top-4": {"top": 4}, "empty prompt free": {"pin_empty": False},
    "target: rest": {"target": "rest", "eta": 2.0}, "target: prompt": {"target": "prompt", "eta": 2.0},
    "target: concept": {"target": "concept", "eta": 2.0}, "constant rate": {"schedule": "constant"},
}  # fmt: skip


def sage(model: Editable, concepts: Sequence[Concept], config: Config, run: Run) -> Erasure:
    """Erase the domains of ``concepts``, one search per concept and step."""
    check(config, concepts)
    runs, student = Runs(config.runs, config.sampler_steps, config.guidance), Student(model, config.sites)
    cycles = [Cycle(student, concept, config, runs, run) for concept in concepts]
    retained = Retained.of(model, concepts, runs, empty=config.pin_empty, seed=run.seed_for("retained"))
    graph_of, gamma = Graph(retained.original, config.graph_form), max(cycle.gamma for cycle in cycles)
    optimiser, extra = (
        torch.optim.Adam(student.parameters(), config.lr),
        {f"searches-{i}": c.earlier for i, c in enumerate(cycles)},
    )
    for step in run.steps(config.steps, student.masters, optimiser, extra=extra):
        learning_rate(optimiser, config.lr, config.schedule, step.index, config.steps)
        asked = [cycle.losses(step.index) for cycle in cycles]
        parts = {name: torch.stack([part[name] for part in asked]).mean() for name in asked[0]}
        now = student.encode(retained.tokens)
        drifted = most_drifted(now, retained.original, config.top, always=retained.empty)
        parts |= {"graph": graph_of(now), "local": retained.drift(student, now, drifted, run.generator("retain"))}
        kept = gamma * parts["graph"] + config.local * parts["local"] + parts["made_up"]
        step.minimise(
            parts["erase"] + config.said * parts["said"] + kept, {name: part.detach() for name, part in parts.items()}
        )
    return run.erasure(*student.replace_edits())


class Cycle:
    """One concept's self-check and self-erasure, and the made-up words around it."""

    def __init__(self, student: Student, concept: Concept, config: Config, runs: Runs, run: Run) -> None:
        self.student, self.config, self.run, self.made_up = student, config, run, MadeUpWords(student, config.reach)
        model, sentences, each = (
            student.model,
            chosen(concept.kind, config.templates, config.sentences),
            config.words_sentences,
        )
        self.similarity, seed = Similarity(model, config.similarity), run.seed_for("pool", concept.name)
        words, one = asked_for(concept, self.made_up, config, run)
        self.domain = Sentences.of(
            model, concept.words, sentences, runs, seed, named=concept.name, beside=words, each=each
        )
        search = Search(
            config.objective, config.domain, config.attack_steps, config.attack_lr, config.free, config.scatter
        )
        self.earlier = Earlier(search, self.domain.frames, embedding_table(model), config.anew)
        self.gone = SelfErasure(student, config.target, config.eta, said=config.said > 0)
        self.hold, self.weight = (
            (self.made_up.seen, config.made_up) if one else (self.made_up.said, config.made_up_wide)
        )
        self.kin, self.gamma = config.kin if one else 1.0, config.graph_fine if concept.kind in FINE else config.graph

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
        batch = domain.draw(config.batch, run.generator("erase"))
        if step >= config.warmup:
            found, value = self.earlier.search_on(
                batch.prompt, domain.alone, self.student, self.similarity, run.generator("scatter")
            )
            reached["attack"] = value.mean()
            if config.plain:
                own = domain.draw(config.plain, run.generator("plain"))
                asked.append(
                    self.gone(domain, own, self.made_up.kin(domain.frames[own.prompt], self.kin, run.generator("kin")))
                )
        if domain.beside:
            asked.append(
                self.gone(domain, domain.draw(config.words_batch or config.plain, run.generator("words"), beside=True))
            )
        asked.append(self.gone(domain, batch, found))
        erase, said = (torch.stack(part).sum() for part in zip(*asked, strict=True))
        held = (
            self.weight * self.hold(domain, config.made_up_batch, run.generator("made-up"))
            if self.weight
            else torch.zeros_like(erase)
        )
        return {"erase": erase, "said": said, "made_up": held, **reached}


def asked_for(concept: Concept, made_up: MadeUpWords, config: Config, run: Run) -> tuple[list[str], bool]:
    """The words that the model draws a domain by, and whether made-up words may be held as an object's are: most lie beyond these."""
    count, model, seed = (
        config.words if config.plain and concept.kind in WIDE else 0,
        made_up.student.model,
        run.seed_for("words"),
    )
    own = own_words(
        model,
        concept,
        count=count,
        pictures=config.words_pictures,
        asked=config.words_asked,
        seed=seed,
        progress=run.progress,
    )
    words = [found.word for found in own]
    return words, concept.kind in ONE or made_up.share_beyond(concept.name, words) > 0.5


def check(config: Config, concepts: Sequence[Concept]) -> None:
    """What can be wrong with a configuration for these concepts.

    Raises:
        UnknownName: a target that is none.
        EffaceError: sites outside of the text encoder, a negative warm-up, or fewer retain prompts than the retention needs.
    """
    if config.target not in TARGETS:
        raise UnknownName("target", config.target, TARGETS)
    if not config.sites.startswith("text"):
        raise EffaceError(
            f"SAGE trains the text encoder, not {config.sites!r}: set sites to text_all, text_layers:0-3 or text_mlp"
        )
    if config.warmup < 0:
        raise EffaceError(f"a warm-up of {config.warmup} steps is none: set warmup to 0 or more")
    found, needed = (
        len({prompt for concept in concepts for prompt in concept.retain}),
        max(config.top, 1 if config.pin_empty else 2),
    )
    if found < needed:
        raise EffaceError(
            f"SAGE retains by at least {needed} retain prompts, and there are {found}: give them with --retain-file"
        )
