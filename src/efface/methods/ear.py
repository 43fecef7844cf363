"""EAR: erasing concepts from autoregressive image models (arXiv 2506.20151).

For a pair of an unsafe prompt and a safe one, the student's last hidden states H_n move away from the original's for
the unsafe prompt, image token by image token:

    l_i = || H_n - [ H*_safe - eta ( H*_unsafe - H*_0 ) ] ||^2

H_n and H*_unsafe follow the original's image of the unsafe prompt; H*_safe and H*_0 follow two images of the safe
prompt of their own (``trajectories=own``). Windowed gradient accumulation (WGA) adds l_i over ``window`` tokens before
each update; thresholded loss masking (TLM) skips an update whose sum is at most ``threshold``. Conditional rows and
unconditional ones, whose words are padding, count alike. Only the attention of the first layers changes.

Differences: the released code reads every image token by itself, without the prompt and the tokens before it
(``context=none``); the paper's text has a cache (``context=cache``), which inference has, too. The released code drops
the last window where it is incomplete; here it counts, with its share of the threshold (``incomplete_window=drop``:
as released). Prompts are in the model's chat template, as at inference. ``trajectories=shared`` lets all states follow
the unsafe image, so that they differ by the prompt alone; ``retain_weight`` adds the squared change of the states of
retain prompts, which a small model needs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from efface.core.concept import Concept
from efface.core.erasure import Erasure
from efface.core.errors import UnknownNameError
from efface.core.method_card import MethodCard
from efface.models.image_token_context import ImageTokenContext
from efface.models.image_token_sampling import sample_image_tokens
from efface.models.janus import JanusModel
from efface.ops.image_tokens.prompt_pairs import PromptPairs
from efface.ops.image_tokens.retained_images import RetainedImages
from efface.ops.image_tokens.windows import check_context, image_states, token_windows, window_states
from efface.ops.training.loop import Step
from efface.ops.training.run import Run
from efface.ops.training.student import Student

CARD = MethodCard(
    name="ear",
    title="EAR",
    paper="Fan, Chen, et al.: EAR: Erasing Concepts from Unified Autoregressive Models, 2025",
    arxiv="2506.20151",
    families=("janus",),
    trains="the attention of the first layers of the language model",
    needs_gradient=True,
    needs_images=False,
    reconstruction=False,
    summary="Moves hidden states of image tokens from an unsafe prompt's to a safe prompt's, window by window.",
)
TRAJECTORIES, INCOMPLETE = ("own", "shared"), ("scale", "drop")


@dataclass(frozen=True)
class Config:
    """EAR's hyper-parameters; the defaults are the paper's."""

    target_modules: str = field(default="attn:0-4", metadata={"help": "Parameter group to change."})
    steps: int = field(default=50, metadata={"help": "Number of training steps."})
    learning_rate: float = field(default=1e-4, metadata={"help": "Learning rate of the optimiser."})
    batch_size: int = field(default=1, metadata={"help": "Number of training samples per step."})
    window: int = field(
        default=48, metadata={"help": "Number of image tokens per update (paper: 48, nudity 100, style 12)."}
    )
    threshold: float = field(default=0.05, metadata={"help": "Loss of a window up to which it is skipped."})
    incomplete_window: str = field(default="scale", metadata={"help": "What to do with it.", "range": "scale, drop"})
    eta: float = field(default=1.0, metadata={"help": "Strength of the negative guidance."})
    guidance_scale: float = field(default=5.0, metadata={"help": "Guidance scale of the images."})
    context: str = field(default="cache", metadata={"help": "What precedes an image token.", "range": "cache, none"})
    trajectories: str = field(
        default="own", metadata={"help": "Images that the safe states follow.", "range": "own, shared"}
    )
    num_templates: int = field(default=50, metadata={"help": "Number of templates from the library."})
    retain_weight: float = field(default=0.0, metadata={"help": "Weight of the retain loss."})


PRESETS: dict[str, dict[str, object]] = {
    "paper": {},
    "released": {"context": "none", "incomplete_window": "drop"},
    "pocket-janus": {
        "target_modules": "attn",
        "steps": 60,
        "learning_rate": 5e-4,
        "batch_size": 8,
        "window": 16,
        "guidance_scale": 1.5,
        "trajectories": "shared",
        "retain_weight": 100.0,
    },
}


def ear(model: JanusModel, concepts: Sequence[Concept], config: Config, run: Run) -> Erasure:
    """Erases the concepts from an autoregressive image model; their prompts share the steps evenly."""
    _check(config)
    pairs = PromptPairs.from_concepts(concepts, config.num_templates)
    retained = RetainedImages.if_weighted(config.retain_weight, model, concepts, config.guidance_scale, run)
    student = Student(model, config.target_modules)  # type: ignore[arg-type]
    optimiser = torch.optim.Adam(student.parameters(), lr=config.learning_rate)
    is_cached = config.context == "cache"
    for step in run.steps(config.steps, student.trainable_params, optimiser):
        unsafe, safe = pairs.batch(step.index, config.batch_size, run.generator("pairs"))
        tokens, target = targets(model, unsafe, safe, config, run.generator("tokens"))
        context = ImageTokenContext(model, model.guided_prompts(unsafe), cached=is_cached)
        for window in token_windows(model.num_image_tokens, config.window):
            if window.share < 1 and config.incomplete_window == "drop":
                continue
            states = window_states(context, tokens, window, student.params())
            errors = (states - target[:, window.start : window.stop]).float().square().mean(dim=(0, 2))
            update(step, errors.sum(), config.threshold * window.share, retained, student, config, run)
    return run.erasure(*student.replace_edits())


def update(
    step: Step, loss: Tensor, threshold: float, retained: RetainedImages | None, student: Student, config: Config,
    run: Run,
) -> None:  # fmt: skip
    """Updates the student with a window's loss, unless thresholded loss masking skips it."""
    step.losses["erase"] = float(loss.detach())
    if step.losses["erase"] <= threshold:
        return
    parts = {"erase": loss.detach()}
    if retained is not None:
        retain = retained.loss(student, config.batch_size, run.generator("retain"))
        parts["retain"] = retain.detach()
        loss = loss + config.retain_weight * config.window * retain
    step.optimize(loss, parts)


@torch.no_grad()
def targets(
    model: JanusModel, unsafe: Sequence[str], safe: Sequence[str], config: Config, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Returns the tokens of the unsafe images ``(2B, N)`` and the states that the student shall have, ``(2B, N, D)``.

    The first B rows are conditional, the others unconditional.
    """
    generators, is_cached = [generator] * len(unsafe), config.context == "cache"

    def generate(prompts: Sequence[str]) -> tuple[Tensor, Tensor]:
        found = sample_image_tokens(
            model, prompts, generators, guidance_scale=config.guidance_scale, cached=is_cached
        )  # fmt: skip
        return found.tokens.repeat(2, 1), found.states

    tokens, unsafe_states = generate(unsafe)
    if config.trajectories == "own":
        safe_states, base_states = generate(safe)[1], generate(safe)[1]
    else:
        context = ImageTokenContext(model, model.guided_prompts(safe), cached=is_cached)
        safe_states = base_states = image_states(context, tokens)
    return tokens, safe_states - config.eta * (unsafe_states - base_states)


def _check(config: Config) -> None:
    """Raises `UnknownNameError` for a choice that does not exist."""
    check_context(config.context)
    if config.trajectories not in TRAJECTORIES:
        raise UnknownNameError("choice of trajectories", config.trajectories, TRAJECTORIES)
    if config.incomplete_window not in INCOMPLETE:
        raise UnknownNameError("treatment of an incomplete window", config.incomplete_window, INCOMPLETE)
