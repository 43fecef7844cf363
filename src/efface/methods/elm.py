"""ELM: erasure of language memory (Gandikota et al. 2024, arXiv 2410.02760).

A LoRA is trained with three losses. Erase: on texts x about the concept, the model learns what the original predicts
when it is guided from an expert's voice c+ to a novice's voice c-,

    log q_i = log P(x_i | x_<i) - eta_i ( log P(x_i | c+, x_<i) - log P(x_i | c-, x_<i) ),    L_erase = CE(model, q)

with eta_i rising linearly over the text and the k largest entries of q. Retain: cross-entropy with the original's
likeliest token on other texts. Fluency: after a text about the concept and a sentence that changes the subject, the
model learns a continuation that the original writes while it is guided towards the novice: it stays fluent where it
has forgotten.

Differences: the LoRA's scale is 1, not alpha / rank = 1/16; the three losses are added and back-propagated together;
the model writes the texts about the concept unless ``texts_file`` gives them; there is no dropout. Two settings depart
further. ``retain_target="distribution"`` keeps all probabilities, where the likeliest token as target makes the model
ever surer of it; ``num_retain_texts`` adds texts that the model writes itself, without the concept, to those to keep.
Without the two, pocket-lm's perplexity of other texts doubles.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from efface.core.concept import Concept
from efface.core.erasure import Erasure
from efface.core.errors import UnknownNameError
from efface.core.method_card import MethodCard
from efface.models.causal_lm import CausalLM, TextTokens
from efface.ops.language.concept_texts import forget_and_retain_batches
from efface.ops.language.losses import guided_target, linear_strengths, next_token_loss, soft_cross_entropy
from efface.ops.language.text_batches import TextBatches
from efface.ops.training.lora import LoraAdapter
from efface.ops.training.run import Run

CARD = MethodCard(
    name="elm",
    title="ELM",
    paper="Gandikota, Feucht, Marks, Bau: Erasing Conceptual Knowledge from Language Models, 2024",
    arxiv="2410.02760",
    families=("causal_lm",),
    trains="a LoRA on attention and MLP of some layers",
    needs_gradient=True,
    needs_images=False,
    reconstruction=False,
    summary="Trains towards the model's own prediction in a novice's voice, with a loss on fluent answers.",
)
RETAIN_TARGETS = ("token", "distribution")
DISTRIBUTION = RETAIN_TARGETS[1]


@dataclass(frozen=True)
class Config:
    """ELM's hyper-parameters; the defaults are the paper's."""

    target_modules: str = field(default="attn_mlp:4-7", metadata={"help": "Parameter group to change."})
    steps: int = field(default=3000, metadata={"help": "Number of training steps.", "range": "60 to 5000"})
    learning_rate: float = field(default=5e-5, metadata={"help": "Learning rate of the optimiser."})
    batch_size: int = field(default=4, metadata={"help": "Number of training samples per step."})
    rank: int = field(default=256, metadata={"help": "Rank of the LoRA.", "range": "4 to 256"})
    erase_weight: float = field(default=1.0, metadata={"help": "Weight of the erase loss."})
    retain_weight: float = field(default=1.0, metadata={"help": "Weight of the retain loss.", "range": "0 to 20"})
    retain_target: str = field(
        default="token",
        metadata={
            "help": "Target of the retain loss: the original's likeliest token, or its whole distribution.",
            "range": "token, distribution",
        },
    )
    fluency_weight: float = field(default=1.0, metadata={"help": "Weight of the fluency loss."})
    first_strength: float = field(default=1.0, metadata={"help": "Strength eta at a text's first token."})
    last_strength: float = field(default=1000.0, metadata={"help": "Strength eta at a text's last token."})
    fluency_guidance: float = field(default=3.0, metadata={"help": "Guidance of the continuations to the novice."})
    top_k: int = field(default=50, metadata={"help": "Number of entries of the target distribution that stay."})
    expert: str = field(default="written by an expert in {}:", metadata={"help": "Expert's prompt; {} is the concept."})
    novice: str = field(
        default="written by a novice in {} who changes the topic:",
        metadata={"help": "Novice's prompt; {} is the concept."},
    )
    topic_change: str = field(
        default="let us change the subject.", metadata={"help": "Sentence before a fluent continuation."}
    )
    num_texts: int = field(default=256, metadata={"help": "Number of texts that the model writes."})
    texts_file: str = field(default="", metadata={"help": "File with one text about the concept per line."})
    num_retain_texts: int = field(
        default=0, metadata={"help": "Number of texts to keep that the model writes beside the retain prompts."}
    )
    max_length: int = field(default=128, metadata={"help": "Number of tokens to which texts are cut."})


PRESETS: dict[str, dict[str, object]] = {
    "paper": {},
    "pocket-lm": {
        "target_modules": "attn_mlp:0-4",
        "steps": 100,
        "learning_rate": 4e-3,
        "batch_size": 16,
        "rank": 16,
        "erase_weight": 3.0,
        "retain_weight": 7.0,
        "retain_target": "distribution",
        "num_retain_texts": 1024,
        "fluency_weight": 0.1,
        "first_strength": 10.0,
        "last_strength": 20.0,
        "expert": "an expert in {} writes:",
        "novice": "a beginner in {} writes:",
        "topic_change": "that was a good day.",
        "max_length": 40,
    },
}


def elm(model: CausalLM, concepts: Sequence[Concept], config: Config, run: Run) -> Erasure:
    """Erases the concepts from a language model; their texts share the steps evenly."""
    if config.retain_target not in RETAIN_TARGETS:
        raise UnknownNameError("retain target", config.retain_target, RETAIN_TARGETS)
    forget, retain = forget_and_retain_batches(model, concepts, config, run)
    fluent = TextBatches(model, _continuations(model, concepts, forget.texts, config, run), 2 * config.max_length)
    lora = LoraAdapter(model, config.target_modules, config.rank, run.generator("lora"))  # type: ignore[arg-type]
    optimiser = torch.optim.AdamW(lora.trainable_params.values(), lr=config.learning_rate)
    for step in run.steps(config.steps, lora.trainable_params, optimiser, max_grad_norm=1.0):
        rows = forget.sample_rows(config.batch_size, run.generator("forget"))
        kept_tokens = retain.sample(config.batch_size, run.generator("retain"))
        fluent_tokens = fluent.sample(config.batch_size, run.generator("fluent"))
        tokens = model.pad(rows)
        target = _erase_target(model, concepts[step.index % len(concepts)], rows, tokens, config)
        kept_target = _retain_target(model, kept_tokens, config.retain_target)
        params = lora.params()
        erase = soft_cross_entropy(model.logits(tokens, params=params), target, tokens)
        keep = soft_cross_entropy(model.logits(kept_tokens, params=params), kept_target, kept_tokens)
        fluency = next_token_loss(model.logits(fluent_tokens, params=params), fluent_tokens)
        loss = config.erase_weight * erase + config.retain_weight * keep + config.fluency_weight * fluency
        step.optimize(loss, {"erase": erase.detach(), "retain": keep.detach(), "fluency": fluency.detach()})
    edit, tensors = lora.to_edit()
    return run.erasure([edit], tensors)


@torch.no_grad()
def _retain_target(model: CausalLM, tokens: TextTokens, kind: str) -> Tensor:
    """Returns the original's distribution of the next token, or all of it on its likeliest token, ``(B, L - 1, V)``."""
    logits = model.logits(tokens)[:, :-1].float()
    return logits.softmax(-1) if kind == DISTRIBUTION else one_hot(logits.argmax(-1), logits.shape[-1]).to(logits)


@torch.no_grad()
def _erase_target(
    model: CausalLM, concept: Concept, rows: Sequence[list[int]], tokens: TextTokens, config: Config
) -> Tensor:
    """Returns q, ``(B, L - 1, V)``, of the original model."""
    plain = model.logits(tokens)
    expert, novice = (_behind(model, prompt.format(concept.name), rows) for prompt in (config.expert, config.novice))
    strength = linear_strengths(config.first_strength, config.last_strength, plain.shape[1])
    return guided_target(plain, expert, novice, strength, config.top_k)[:, :-1]


def _behind(model: CausalLM, prompt: str, rows: Sequence[list[int]]) -> Tensor:
    """Returns the logits of texts behind a prompt, at the texts' own positions."""
    prefix = model.tokenizer(prompt).input_ids
    has_start = bool(rows[0]) and rows[0][0] == model.tokenizer.bos_token_id
    joined = [[*prefix, *(row[1:] if has_start else row)] for row in rows]
    shift = len(prefix) - int(has_start)
    return model.logits(model.pad(joined))[:, shift:]


def _continuations(
    model: CausalLM, concepts: Sequence[Concept], texts: Sequence[str], config: Config, run: Run
) -> list[str]:
    """Returns texts with a change of subject and a continuation guided to the novice's voice."""
    gamma, concept = config.fluency_guidance, concepts[0]
    starts = [f"{text.split(' answer:')[0]} answer:" if " answer:" in text else text for text in texts[:64]]
    prompts = [start if start.endswith("answer:") else f"{start} {config.topic_change}" for start in starts]
    voices = [prompt.format(concept.name) for prompt in (config.expert, config.novice) for _ in prompts]

    def combine(logits: Tensor) -> Tensor:
        plain, expert, novice = (x.log_softmax(-1) for x in logits.chunk(3))
        return plain - gamma * (expert - novice)

    written = model.generate(
        [*prompts, *voices], count=config.max_length // 2, temperature=0.7, generator=run.generator("fluency"),
        combine=combine,
    )  # fmt: skip
    return [f"{prompt} {text}" for prompt, text in zip(prompts, written, strict=True)]
