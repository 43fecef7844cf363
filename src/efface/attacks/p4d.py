"""Prompting4Debugging (P4D: Chin et al., ICML 2024, arXiv 2309.06135): words that lead the denoiser to the concept.

The attacked model shall predict for the words what the unedited model predicts for the prompt:

    minimise E || e(z_t, t, E(P(p))) - e*(z_t, t, E*(prompt)) ||^2

P projects each free embedding onto the nearest word by cosine; the gradient at the projected words updates the
embeddings p. z_t are noised images of the prompt by the unedited model e*. In the layout ``replace`` (P4D-N), K free
words replace the prompt; in ``insert`` (P4D-K), the prompt stays and a free word precedes every third of its words.

Differences from the paper: the best words are those of the lowest loss over all noised images instead of the text whose
image a CLIP model finds nearest, so that no detector guides the search; the targets are computed once; words are words
of one token, so that the text has the same tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from math import gcd

import torch
from torch import Tensor
from torch.nn.functional import normalize

from efface.core.attack_set import AttackPrompt, AttackSet, AttackTask, Budget
from efface.core.concept import Concept
from efface.core.errors import EffaceError
from efface.core.method_card import MethodCard
from efface.models.editable import EditableModel
from efface.models.protocol import Tokens
from efface.models.soft_prompt import SoftTokens
from efface.ops.adversarial.attack_context import AttackContext
from efface.ops.text.soft_prompts import embedding_table, single_token_ids
from efface.ops.text.word_tokens import check_num_words, with_free_words, word_tokens
from efface.ops.training.latents import generate_per_prompt

CARD = MethodCard(
    name="p4d",
    title="Prompting4Debugging (P4D)",
    paper="Chin, Jiang, Huang, Chen, Chiu: Prompting4Debugging: Red-Teaming Text-to-Image Diffusion Models by Finding "
    "Problematic Prompts, ICML 2024",
    arxiv="2309.06135",
    families=("sd1", "sd2", "sdxl"),
    trains="",
    needs_gradient=True,
    needs_images=True,
    reconstruction=False,
    summary="Finds words for which the attacked denoiser predicts what the unedited one predicts for the prompt.",
    batch_independent=True,
)


@dataclass(frozen=True)
class Config:
    """Settings of the search; the defaults are the published ones."""

    layout: str = field(
        default="replace", metadata={"help": "replace (P4D-N: words alone) or insert (P4D-K: words in the prompt)."}
    )
    num_tokens: int = field(
        default=16, metadata={"help": "Number of free words of the layout replace.", "range": "1 to 75"}
    )
    every: int = field(default=3, metadata={"help": "Prompt words after each free word of the layout insert."})
    steps: int = field(default=3000, metadata={"help": "Number of AdamW steps per prompt."})
    learning_rate: float = field(default=0.1, metadata={"help": "AdamW's learning rate."})
    weight_decay: float = field(default=0.1, metadata={"help": "AdamW's weight decay."})
    num_timesteps: int = field(default=20, metadata={"help": "Number of noised images per prompt."})
    check_every: int = field(default=50, metadata={"help": "Steps between two comparisons of the words found."})
    num_inference_steps: int = field(default=25, metadata={"help": "Number of sampling steps of the images."})
    guidance_scale: float = field(default=7.5, metadata={"help": "Guidance scale of the images."})
    batch_size: int = field(default=16, metadata={"help": "Number of prompts searched at the same time."})


PRESETS: dict[str, dict[str, object]] = {
    "paper": {},
    "pocket": {
        "num_tokens": 8, "steps": 150, "num_timesteps": 10, "check_every": 25, "num_inference_steps": 20,
        "guidance_scale": 3.0,
    },
}  # fmt: skip


def p4d(
    model: EditableModel, concept: Concept, tasks: Sequence[AttackTask], config: Config, run: AttackContext
) -> AttackSet:
    """Searches words for every task's prompt."""
    if config.layout not in ("replace", "insert"):
        raise EffaceError(f"layout must be replace or insert, not {config.layout!r}")
    if min(config.steps, config.num_timesteps, config.check_every, config.every, config.batch_size) < 1:
        raise EffaceError("the p4d attack needs steps, num_timesteps, check_every, every and batch_size of at least 1")
    rows = list[AttackPrompt]()
    run.progress.start("searching words", len(tasks), 0)
    try:
        for start in range(0, len(tasks), config.batch_size):
            batch = tasks[start : start + config.batch_size]
            generator = run.generator_for(batch)
            targets = _Targets.of(model, batch, config, run, generator)
            ids, tokens, loss = _search(model, batch, targets, config, generator)
            for row, task in enumerate(batch):
                text = model.detokenize(ids[row, tokens.start : int(tokens.eos[row])].tolist())
                rows.append(AttackPrompt(task.prompt, text, task.seed))
            run.progress.update(len(rows), {"loss": loss})
    finally:
        run.progress.stop()
    budget = Budget(config.steps, 0.0)
    return AttackSet("p4d", concept, tuple(rows), asdict(config), budget, seed=run.seed)


@dataclass(frozen=True)
class _Targets:
    """Noised images of B prompts at T timesteps, and the unedited model's prediction of their noise.

    Attributes:
        z: ``(T, B, C, H, W)``.
        t: ``(T,)``.
        epsilon: ``(T, B, C, H, W)``.
    """

    z: Tensor
    t: Tensor
    epsilon: Tensor

    @classmethod
    @torch.no_grad()
    def of(
        cls, model: EditableModel, tasks: Sequence[AttackTask], config: Config, run: AttackContext,
        generator: torch.Generator,
    ) -> _Targets:  # fmt: skip
        """Generates the images and predicts with the unedited model."""
        prompts = [task.prompt for task in tasks]
        levels = torch.linspace(0, model.num_train_timesteps - 1, config.num_timesteps).long()
        with run.erasure_disabled():
            images = generate_per_prompt(
                model,
                prompts,
                [task.seed for task in tasks],
                num_inference_steps=config.num_inference_steps,
                guidance_scale=config.guidance_scale,
                batch_size=gcd(model.default_batch_size, config.batch_size),
                phase="generating target images",
            ).x0
            cond = model.encode(prompts)
            noised, predicted = [], []
            for level in levels.tolist():
                t = torch.full((len(tasks),), level, device=images.device)
                noise = torch.randn(images.shape, generator=generator).to(images)
                noised.append(model.add_noise(images, noise, t))
                predicted.append(model.predict(noised[-1], t, cond).epsilon)
        return cls(torch.stack(noised), levels.to(images.device), torch.stack(predicted))


def _search(
    model: EditableModel, tasks: Sequence[AttackTask], targets: _Targets, config: Config, generator: torch.Generator
) -> tuple[Tensor, Tokens, float]:
    """Returns the token ids of the best prompts, ``(B, L)``, their tokens, and their mean loss."""
    tokens, free = _free_tokens(model, [task.prompt for task in tasks], config)
    vocabulary = single_token_ids(model)
    table = embedding_table(model)[vocabulary].float()
    unit = normalize(table, dim=-1)
    first = torch.randint(len(vocabulary), tokens.ids.shape, generator=generator).to(tokens.ids.device)
    p = table[first].clone().requires_grad_(True)
    optimiser = torch.optim.AdamW([p], lr=config.learning_rate, weight_decay=config.weight_decay)
    best_ids = torch.where(free, vocabulary[first], tokens.ids)
    best = torch.full((len(tasks),), torch.inf, device=p.device)

    def losses(soft: Tensor, index: int) -> Tensor:
        cond = model.encode(tokens, soft=SoftTokens(soft, free))
        t = targets.t[index].expand(len(tasks))
        return (model.predict(targets.z[index], t, cond).epsilon - targets.epsilon[index]).square().mean((1, 2, 3))

    for step in range(config.steps):
        nearest = (normalize(p.detach(), dim=-1) @ unit.T).argmax(-1)
        if step % config.check_every == 0 or step == config.steps - 1:
            with torch.no_grad():
                mean = torch.stack([losses(table[nearest], i) for i in range(len(targets.t))]).mean(0)
            better = mean < best
            best = torch.where(better, mean, best)
            best_ids = torch.where(better[:, None] & free, vocabulary[nearest], best_ids)
        projected = table[nearest].requires_grad_(True)
        index = int(torch.randint(len(targets.t), (1,), generator=generator))
        (p.grad,) = torch.autograd.grad(losses(projected, index).sum(), projected)
        optimiser.step()
    return best_ids, tokens, float(best.mean())


def _free_tokens(model: EditableModel, prompts: Sequence[str], config: Config) -> tuple[Tokens, Tensor]:
    """Returns the tokens of B prompts and the positions of the free words, bool ``(B, L)``."""
    if config.layout == "insert":
        return with_free_words(model, prompts, config.every)
    empty = model.tokenize([""])
    check_num_words(config.num_tokens, empty)
    tokens = word_tokens(empty, empty.ids[:, empty.start].expand(len(prompts), config.num_tokens))
    positions = torch.arange(tokens.ids.shape[1], device=tokens.ids.device)
    inside = (positions >= empty.start) & (positions < empty.start + config.num_tokens)
    return tokens, inside.expand(len(prompts), -1)
