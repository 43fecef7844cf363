"""NPO: negative preference optimisation (Zhang et al. 2024, arXiv 2404.05868).

Gradient ascent on texts x to forget diverges. NPO bounds it, as a preference loss with a losing answer alone:

    L = 2/beta E[ log( 1 + ( P(x) / P*(x) )^beta ) ] + retain_weight L_retain

with P* the original model. L_retain is the KL divergence from the original on other texts (the paper's NPO+KL).

Differences: P is the likelihood of the whole text divided by its number of tokens, so that texts of all lengths count
alike; the model writes the texts about the concept unless ``texts_file`` gives them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch.nn.functional import softplus

from efface.core.concept import Concept
from efface.core.erasure import Erasure
from efface.core.method_card import MethodCard
from efface.models.causal_lm import CausalLM
from efface.ops.language.concept_texts import forget_and_retain_batches
from efface.ops.language.losses import kl_divergence, sequence_log_likelihood
from efface.ops.training.run import Run
from efface.ops.training.student import Student

CARD = MethodCard(
    name="npo",
    title="NPO",
    paper="Zhang, Lin, Bai, Mei: Negative Preference Optimization, COLM 2024",
    arxiv="2404.05868",
    families=("causal_lm",),
    trains="all weights of the decoder layers",
    needs_gradient=True,
    needs_images=False,
    reconstruction=False,
    summary="Lowers the likelihood of texts about the concept by a bounded preference loss.",
)


@dataclass(frozen=True)
class Config:
    """NPO's hyper-parameters; the defaults are the paper's."""

    target_modules: str = field(default="layers", metadata={"help": "Parameter group to change."})
    steps: int = field(default=250, metadata={"help": "Number of training steps.", "range": "60 to 5000"})
    learning_rate: float = field(default=1e-5, metadata={"help": "Learning rate of the optimiser."})
    batch_size: int = field(default=32, metadata={"help": "Number of training samples per step."})
    beta: float = field(default=0.1, metadata={"help": "Inverse temperature beta.", "range": "0.05 to 1"})
    retain_weight: float = field(default=1.0, metadata={"help": "Weight of the retain loss.", "range": "0 to 20"})
    num_texts: int = field(default=256, metadata={"help": "Number of texts that the model writes."})
    texts_file: str = field(default="", metadata={"help": "File with one text about the concept per line."})
    num_retain_texts: int = field(
        default=0, metadata={"help": "Number of texts to keep that the model writes beside the retain prompts."}
    )
    max_length: int = field(default=128, metadata={"help": "Number of tokens to which texts are cut."})


PRESETS: dict[str, dict[str, object]] = {
    "paper": {},
    "pocket-lm": {"steps": 150, "learning_rate": 3e-4, "batch_size": 16, "retain_weight": 4.0, "max_length": 40},
}


def npo(model: CausalLM, concepts: Sequence[Concept], config: Config, run: Run) -> Erasure:
    """Erases the concepts from a language model; their texts share the steps evenly."""
    forget, retain = forget_and_retain_batches(model, concepts, config, run)
    student = Student(model, config.target_modules)  # type: ignore[arg-type]
    optimiser = torch.optim.AdamW(student.parameters(), lr=config.learning_rate)
    for step in run.steps(config.steps, student.trainable_params, optimiser, max_grad_norm=1.0):
        tokens = forget.sample(config.batch_size, run.generator("forget"))
        kept_tokens = retain.sample(config.batch_size, run.generator("retain"))
        with torch.no_grad():
            original = sequence_log_likelihood(model.logits(tokens), tokens)
            kept_logits = model.logits(kept_tokens)
        params = student.params()
        lengths = (tokens.mask.sum(-1) - 1).clamp(min=1)
        ratio = (sequence_log_likelihood(model.logits(tokens, params=params), tokens) - original) / lengths
        erase = 2 / config.beta * softplus(config.beta * ratio).mean()
        keep = kl_divergence(model.logits(kept_tokens, params=params), kept_logits, kept_tokens)
        step.optimize(erase + config.retain_weight * keep, {"erase": erase.detach(), "retain": keep.detach()})
    return run.erasure(*student.replace_edits())
