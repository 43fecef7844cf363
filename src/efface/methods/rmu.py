"""RMU: representation misdirection for unlearning (Li et al. 2024, arXiv 2403.03218).

At one layer, states of texts to forget are pulled to a random direction u, those of other texts stay where they were:

    L = || h(x_forget) - c u ||^2 + alpha || h(x_retain) - h*(x_retain) ||^2

u is a unit vector, uniform in [0, 1) before it is scaled; h* is the original model's state. Only the output matrices
of the MLPs of the layer and the two below it change.

Differences: the paper scales u by a constant c for 7B models; here c is ``steering`` times the mean norm of the
layer's own states, so that it fits every model. The model writes the texts unless ``texts_file`` gives them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from efface.core.concept import Concept
from efface.core.erasure import Erasure
from efface.core.method_card import MethodCard
from efface.models.causal_lm import CausalLM
from efface.ops.language.concept_texts import forget_and_retain_batches
from efface.ops.language.losses import masked_mean_square
from efface.ops.training.run import Run
from efface.ops.training.student import Student

CARD = MethodCard(
    name="rmu",
    title="RMU",
    paper="Li et al.: The WMDP Benchmark: Measuring and Reducing Malicious Use With Unlearning, ICML 2024",
    arxiv="2403.03218",
    families=("causal_lm",),
    trains="the output matrices of three MLPs",
    needs_gradient=True,
    needs_images=False,
    reconstruction=False,
    summary="Pulls hidden states of the concept's texts to a random direction and holds those of other texts.",
)


@dataclass(frozen=True)
class Config:
    """RMU's hyper-parameters; the defaults are the paper's, except for ``steering``."""

    layer: int = field(default=7, metadata={"help": "Layer whose states are moved.", "range": "0 to 31"})
    steps: int = field(default=150, metadata={"help": "Number of training steps.", "range": "60 to 5000"})
    learning_rate: float = field(default=5e-5, metadata={"help": "Learning rate of the optimiser."})
    batch_size: int = field(default=4, metadata={"help": "Number of training samples per step."})
    steering: float = field(default=4.0, metadata={"help": "Norm of the random target in mean norms of the states."})
    retain_weight: float = field(default=1200.0, metadata={"help": "Weight alpha of the states to hold."})
    num_texts: int = field(default=256, metadata={"help": "Number of texts that the model writes."})
    texts_file: str = field(default="", metadata={"help": "File with one text about the concept per line."})
    num_retain_texts: int = field(
        default=0, metadata={"help": "Number of texts to keep that the model writes beside the retain prompts."}
    )
    max_length: int = field(default=128, metadata={"help": "Number of tokens to which texts are cut."})


PRESETS: dict[str, dict[str, object]] = {
    "paper": {},
    "pocket-lm": {
        "layer": 3,
        "steps": 100,
        "learning_rate": 1e-3,
        "batch_size": 16,
        "retain_weight": 20.0,
        "max_length": 56,
    },
}


def rmu(model: CausalLM, concepts: Sequence[Concept], config: Config, run: Run) -> Erasure:
    """Erases the concepts from a language model; their texts share the steps evenly."""
    model.layer(config.layer)
    forget, retain = forget_and_retain_batches(model, concepts, config, run)
    student = Student(model, f"mlp_out:{max(config.layer - 2, 0)}-{config.layer}")  # type: ignore[arg-type]
    optimiser = torch.optim.AdamW(student.parameters(), lr=config.learning_rate)
    layers, direction = [config.layer], None
    for step in run.steps(config.steps, student.trainable_params, optimiser):
        tokens = forget.sample(config.batch_size, run.generator("forget"))
        kept_tokens = retain.sample(config.batch_size, run.generator("retain"))
        with torch.no_grad():
            original = model.hidden_states(kept_tokens, layers)[config.layer]
        if direction is None:
            random = torch.rand(original.shape[-1], generator=run.generator("direction")).to(original)
            norm = torch.stack([_mean_norm(model, row, config.layer) for row in forget.rows[:32]]).mean()
            direction = config.steering * norm * random / random.norm()
        params = student.params()
        moved = model.hidden_states(tokens, layers, params=params)[config.layer]
        held = model.hidden_states(kept_tokens, layers, params=params)[config.layer]
        erase = masked_mean_square((moved - direction).float(), tokens.mask)
        keep = masked_mean_square((held - original).float(), kept_tokens.mask)
        step.optimize(erase + config.retain_weight * keep, {"erase": erase.detach(), "retain": keep.detach()})
    return run.erasure(*student.replace_edits())


@torch.no_grad()
def _mean_norm(model: CausalLM, row: list[int], layer: int) -> torch.Tensor:
    """Returns the mean norm of a text's states at a layer, without its first token, whose norm is an outlier."""
    return model.hidden_states(model.pad([row]), [layer])[layer][0, 1:].float().norm(dim=-1).mean()
