"""Outside-in: words before the prompt, searched through the denoiser (UnlearnDiffAtk: Zhang et al., ECCV 2024, arXiv 2310.11868).

For every prompt the unedited model draws an image x; k words are then searched in front of the prompt with which the model under attack
explains x best:

    min_u  E || e(alpha_t x + sigma_t n, t, E(BOS, w ~ u, prompt)) - n ||^2,        u in the product of k simplices over the vocabulary

One word a place is drawn from u, the gradient passes straight through the draw and is clipped to [-1, 1], Adam (with weight decay) steps
on u, and every row is projected back onto the simplex. Each of ``levels`` timesteps, from low to high, has its share of the steps. The
most likely words are the attack.

Where we differ: all prompts of a batch are searched at once; the search is not stopped by a detector after each timestep, so the budget is
always spent; timesteps divide 10 to 990 evenly whatever their number; only words that are one token are searched, so that the text is read
back as the same tokens; projection sorts instead of bisecting.
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
from efface.ops.text.soft_prompts import embedding_table, single_token_words
from efface.ops.training.latents import generate_per_prompt

CARD = MethodCard(
    name="outside_in",
    title="Outside-in search (UnlearnDiffAtk)",
    paper="Zhang, Jia, Chen, Chen, Zhang, Liu, Ding, Liu: To Generate or Not? Safety-Driven Unlearned Diffusion Models, ECCV 2024",
    arxiv="2310.11868",
    families=("sd1", "sd2", "sdxl"),
    trains="",
    needs_gradient=True,
    needs_images=True,
    vram={},
    minutes={},
    reconstruction=False,
    summary="Words before the prompt with which the erased model explains an image of the concept, through the denoiser.",
    batch_independent=True,
)


@dataclass(frozen=True)
class Config:
    """The search's hyper-parameters; the defaults are the published ones for objects and styles."""

    num_tokens: int = field(
        default=3, metadata={"help": "k, words before the prompt: 3 for objects and styles, 5 for nudity"}
    )
    num_timesteps: int = field(default=50, metadata={"help": "timesteps, from low to high"})
    steps: int = field(default=40, metadata={"help": "Adam steps at each"})
    learning_rate: float = field(default=0.01, metadata={"help": "Adam's learning rate"})
    weight_decay: float = field(default=0.1, metadata={"help": "Adam's weight decay"})
    num_inference_steps: int = field(default=100, metadata={"help": "DDIM steps of the target images"})
    guidance_scale: float = field(default=7.5, metadata={"help": "guidance scale of the target images"})
    batch_size: int = field(default=16, metadata={"help": "prompts searched at once"})


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
    """One search for every task's prompt."""
    if min(config.num_tokens, config.num_timesteps, config.steps) < 1:
        raise EffaceError("an outside-in search needs at least one word, one timestep and one step")
    prompts, seeds, rows = [task.prompt for task in tasks], [task.seed for task in tasks], list[AttackPrompt]()
    with run.erasure_disabled():
        latents = generate_per_prompt(
            model, prompts, seeds, steps=config.num_inference_steps, guidance=config.guidance_scale, progress=run.progress, name="drawing targets",
            batch=gcd(model.batch, config.batch_size),  # whole batches of the search are drawn as whole batches, whoever searches
        )  # fmt: skip
    vocabulary = single_token_words(model)
    run.progress.start("searching outside-in", len(prompts), 0)
    try:
        for start in range(0, len(prompts), config.batch_size):
            part = slice(start, start + config.batch_size)
            generator = run.generator_for(tasks[part])
            chosen, loss = search_tokens(
                model, model.tokenize(prompts[part]), latents.x0[part], vocabulary, config, generator
            )
            texts = [
                f"{model.detokenize(ids)} {task.prompt}" for task, ids in zip(tasks[part], chosen.tolist(), strict=True)
            ]
            rows += [AttackPrompt(task.prompt, text, task.seed) for task, text in zip(tasks[part], texts, strict=True)]
            run.progress.update(len(rows), {"loss": loss})
    finally:
        run.progress.stop()
    budget = Budget(config.num_timesteps * config.steps, 0.0)
    return AttackSet("outside_in", concept, tuple(rows), asdict(config), budget, seed=run.seed)


def search_tokens(
    model: EditableModel, tokens: Tokens, clean: Tensor, vocabulary: Tensor, config: Config, generator: torch.Generator
) -> tuple[Tensor, float]:
    """The k words ``(B, k)`` in front of each prompt that explain its image ``(B, C, H, W)`` best, and the last mean loss."""
    rows = len(clean)
    table = embedding_table(model)[vocabulary].float()
    u = torch.full(
        (rows, config.num_tokens, len(vocabulary)), 1 / len(vocabulary), device=clean.device, requires_grad=True
    )
    optimiser = torch.optim.Adam([u], lr=config.learning_rate, weight_decay=config.weight_decay)
    mean = 0.0
    for level in torch.linspace(0.01, 0.99, config.num_timesteps).tolist():
        t = torch.full((rows,), int(level * model.timesteps), device=clean.device)
        for _ in range(config.steps):
            drawn = torch.nn.functional.one_hot(target_latents(u.detach(), generator), len(vocabulary)).to(u.dtype)
            soft = (drawn + u - u.detach()) @ table
            noise = torch.randn(clean.shape, generator=generator).to(clean)
            predicted = model.predict(model.add_noise(clean, noise, t), t, model.encode(tokens, soft=soft)).epsilon
            losses = (predicted - noise).square().mean((1, 2, 3))
            (gradient,) = torch.autograd.grad(losses.sum(), u)
            u.grad, mean = gradient.clamp(-1, 1), float(losses.detach().mean())
            optimiser.step()
            with torch.no_grad():
                u.copy_(project_to_simplex(u))
    return vocabulary[u.detach().argmax(-1)], mean


def target_latents(u: Tensor, generator: torch.Generator) -> Tensor:
    """One index from each distribution of ``(..., V)``; the generator is on the CPU, whatever the device."""
    at = torch.rand(u.shape[:-1], generator=generator).to(u)[..., None] * u.sum(-1, keepdim=True)
    return (u.cumsum(-1) < at).sum(-1).clamp(max=u.shape[-1] - 1)


def project_to_simplex(u: Tensor) -> Tensor:
    """The nearest points of the probability simplex to vectors ``(..., V)``, by sorting (Duchi et al. 2008)."""
    ordered = u.sort(dim=-1, descending=True).values
    excess = ordered.cumsum(-1) - 1
    count = torch.arange(1, u.shape[-1] + 1, device=u.device, dtype=u.dtype)
    last = ((ordered - excess / count) > 0).sum(-1, keepdim=True)
    return (u - excess.gather(-1, last - 1) / last).clamp(min=0)
