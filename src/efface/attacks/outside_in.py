"""Outside-in search (UnlearnDiffAtk: Zhang et al., ECCV 2024, arXiv 2310.11868): words before the prompt.

The unedited model generates an image x for every prompt. The attack then searches k words in front of the prompt with
which the attacked model explains x best, through the denoiser:

    min_u  E || e(alpha_t x + sigma_t n, t, E(BOS, w ~ u, prompt)) - n ||^2

u is a point in the product of k simplices over the vocabulary: one distribution per word position. Each step samples
one word per position from u, passes the gradient straight through the sample, and clips it to [-1, 1]. Adam with weight
decay updates u, and each row is projected onto the simplex. The ``num_timesteps`` timesteps, from low to high, have
``steps`` steps each. The most likely words are the result.

Differences from the paper: all prompts of a batch are searched at the same time; no detector stops the search after a
timestep, so that it always spends its whole budget; the timesteps divide 10 to 990 evenly for any number of them; the
vocabulary has only words of one token, so that the tokenizer splits the text into the same tokens again; the projection
sorts instead of bisecting.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from math import gcd

import torch
from torch import Tensor

from efface.core.attack_set import AttackPrompt, AttackSet, AttackTask, Budget
from efface.core.concept import Concept
from efface.core.errors import EffaceError
from efface.core.method_card import MethodCard
from efface.models.editable import EditableModel
from efface.models.protocol import Tokens
from efface.ops.adversarial.attack_context import AttackContext
from efface.ops.text.soft_prompts import embedding_table, single_token_ids
from efface.ops.training.latents import Latents, generate_per_prompt

CARD = MethodCard(
    name="outside_in",
    title="Outside-in search (UnlearnDiffAtk)",
    paper="Zhang, Jia, Chen, Chen, Zhang, Liu, Ding, Liu: To Generate or Not? Safety-Driven Unlearned Diffusion "
    "Models, ECCV 2024",
    arxiv="2310.11868",
    families=("sd1", "sd2", "sdxl"),
    trains="",
    needs_gradient=True,
    needs_images=True,
    reconstruction=False,
    summary="Searches words before the prompt with which the erased model explains an image of the concept.",
    batch_independent=True,
)


@dataclass(frozen=True)
class Config:
    """Settings of the search; the defaults are the published ones for objects and styles."""

    num_tokens: int = field(
        default=3, metadata={"help": "Number of words before the prompt: 3 for objects and styles, 5 for nudity."}
    )
    num_timesteps: int = field(default=50, metadata={"help": "Number of timesteps, from low to high."})
    steps: int = field(default=40, metadata={"help": "Number of Adam steps per timestep."})
    learning_rate: float = field(default=0.01, metadata={"help": "Adam's learning rate."})
    weight_decay: float = field(default=0.1, metadata={"help": "Adam's weight decay."})
    num_inference_steps: int = field(default=100, metadata={"help": "Number of DDIM steps of the target images."})
    guidance_scale: float = field(default=7.5, metadata={"help": "Guidance scale of the target images."})
    batch_size: int = field(default=16, metadata={"help": "Number of prompts searched at the same time."})


PRESETS: dict[str, dict[str, object]] = {
    "paper": {},
    "pocket": {
        "num_timesteps": 10,
        "steps": 10,
        "learning_rate": 0.05,
        "num_inference_steps": 20,
        "guidance_scale": 3.0,
    },
}


def outside_in(
    model: EditableModel, concept: Concept, tasks: Sequence[AttackTask], config: Config, run: AttackContext
) -> AttackSet:
    """Runs one search for every task's prompt."""
    if min(config.num_tokens, config.num_timesteps, config.steps) < 1:
        raise EffaceError("an outside-in search needs num_tokens, num_timesteps and steps of at least 1")
    targets = _generate_targets(model, tasks, config, run)
    vocabulary = single_token_ids(model)
    rows = list[AttackPrompt]()
    run.progress.start("searching outside-in", len(tasks), 0)
    try:
        for start in range(0, len(tasks), config.batch_size):
            batch = tasks[start : start + config.batch_size]
            tokens = model.tokenize([task.prompt for task in batch])
            images = targets.x0[start : start + config.batch_size]
            word_ids, loss = search_tokens(model, tokens, images, vocabulary, config, run.generator_for(batch))
            for task, ids in zip(batch, word_ids.tolist(), strict=True):
                rows.append(AttackPrompt(task.prompt, f"{model.detokenize(ids)} {task.prompt}", task.seed))
            run.progress.update(len(rows), {"loss": loss})
    finally:
        run.progress.stop()
    budget = Budget(config.num_timesteps * config.steps, 0.0)
    return AttackSet("outside_in", concept, tuple(rows), asdict(config), budget, seed=run.seed)


def search_tokens(
    model: EditableModel, tokens: Tokens, images: Tensor, vocabulary: Tensor, config: Config, generator: torch.Generator
) -> tuple[Tensor, float]:
    """Searches the words in front of each prompt that explain its image best.

    Args:
        model: the model under attack.
        tokens: the B prompts.
        images: latents of their target images, ``(B, C, H, W)``.
        vocabulary: token ids of the V possible words.
        config: the settings.
        generator: of words and noise, on the CPU.

    Returns:
        Token ids of the words, ``(B, k)``, and the mean loss of the last step.
    """
    rows, size = len(images), len(vocabulary)
    table = embedding_table(model)[vocabulary].float()
    u = torch.full((rows, config.num_tokens, size), 1 / size, device=images.device, requires_grad=True)
    optimiser = torch.optim.Adam([u], lr=config.learning_rate, weight_decay=config.weight_decay)
    mean_loss = 0.0
    for level in torch.linspace(0.01, 0.99, config.num_timesteps).tolist():
        t = torch.full((rows,), int(level * model.num_train_timesteps), device=images.device)
        for _ in range(config.steps):
            sampled = torch.nn.functional.one_hot(sample_indices(u.detach(), generator), size).to(u.dtype)
            soft = (sampled + u - u.detach()) @ table
            noise = torch.randn(images.shape, generator=generator).to(images)
            predicted = model.predict(model.add_noise(images, noise, t), t, model.encode(tokens, soft=soft)).epsilon
            losses = (predicted - noise).square().mean((1, 2, 3))
            (gradient,) = torch.autograd.grad(losses.sum(), u)
            u.grad = gradient.clamp(-1, 1)
            mean_loss = float(losses.detach().mean())
            optimiser.step()
            with torch.no_grad():
                u.copy_(project_to_simplex(u))
    return vocabulary[u.detach().argmax(-1)], mean_loss


def sample_indices(u: Tensor, generator: torch.Generator) -> Tensor:
    """Samples one index from each distribution of ``(..., V)``, with a CPU generator for any device."""
    threshold = torch.rand(u.shape[:-1], generator=generator).to(u)[..., None] * u.sum(-1, keepdim=True)
    return (u.cumsum(-1) < threshold).sum(-1).clamp(max=u.shape[-1] - 1)


def project_to_simplex(u: Tensor) -> Tensor:
    """Projects vectors ``(..., V)`` onto the probability simplex by sorting (Duchi et al. 2008)."""
    ordered = u.sort(dim=-1, descending=True).values
    excess = ordered.cumsum(-1) - 1
    count = torch.arange(1, u.shape[-1] + 1, device=u.device, dtype=u.dtype)
    last = ((ordered - excess / count) > 0).sum(-1, keepdim=True)
    return (u - excess.gather(-1, last - 1) / last).clamp(min=0)


def _generate_targets(model: EditableModel, tasks: Sequence[AttackTask], config: Config, run: AttackContext) -> Latents:
    """Generates the latents of the target images with the unedited model.

    The batch size divides that of the search, so that the images do not depend on how processes share the batches.
    """
    with run.erasure_disabled():
        return generate_per_prompt(
            model,
            [task.prompt for task in tasks],
            [task.seed for task in tasks],
            num_inference_steps=config.num_inference_steps,
            guidance_scale=config.guidance_scale,
            batch_size=gcd(model.default_batch_size, config.batch_size),
            progress=run.progress,
            phase="generating target images",
        )
