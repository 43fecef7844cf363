"""UnlearnDiffAtk (Zhang et al., ECCV 2024, arXiv 2310.11868): words before a prompt that make the denoiser predict it.

    minimise E || e(z_t, t, E(words + prompt)) - noise ||^2,    z_t = alpha_t x + sigma_t noise

x is the unedited model's image of the prompt. Each of the k words is a row of u on the simplex over the vocabulary. A
step samples one word from each row and passes its gradient, cut to [-1, 1], straight through to u; u is projected back
onto the simplex. For every timestep in rising order the search takes ``iterations`` steps.

Differences from the paper: the best words are those of the lowest loss over fixed noised images of all timesteps,
because no detector guides the search; the projection sorts instead of bisecting; words are words of one token, so that
the text has the same tokens; the image is a latent of the sampler.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from math import gcd

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from efface.core.attack_set import AttackPrompt, AttackSet, AttackTask, Budget
from efface.core.concept import Concept
from efface.core.errors import EffaceError
from efface.core.method_card import MethodCard
from efface.models.editable import EditableModel
from efface.models.soft_prompt import SoftTokens
from efface.ops.adversarial.attack_context import AttackContext
from efface.ops.text.simplex import project_to_simplex
from efface.ops.text.soft_prompts import embedding_table, single_token_ids
from efface.ops.text.word_tokens import with_words_before
from efface.ops.training.latents import generate_per_prompt

CARD = MethodCard(
    name="unlearn_diff",
    title="UnlearnDiffAtk",
    paper="Zhang, Jia, Chen, Chen, Zhang, Liu, Ding, Liu: To Generate or Not? Safety-Driven Unlearned Diffusion Models "
    "Are Still Easy To Generate Unsafe Images, ECCV 2024",
    arxiv="2310.11868",
    families=("sd1", "sd2", "sdxl"),
    trains="",
    needs_gradient=True,
    needs_images=True,
    reconstruction=False,
    summary="Finds words before the prompt with which the attacked denoiser predicts an image of the concept.",
    batch_independent=True,
)


@dataclass(frozen=True)
class Config:
    """Settings of the search; the defaults are the published ones."""

    num_tokens: int = field(default=3, metadata={"help": "Number of words before the prompt.", "range": "3 to 5"})
    num_timesteps: int = field(default=50, metadata={"help": "Number of timesteps, in rising order."})
    iterations: int = field(default=40, metadata={"help": "Number of Adam steps for each timestep."})
    learning_rate: float = field(default=0.01, metadata={"help": "Adam's learning rate."})
    weight_decay: float = field(default=0.1, metadata={"help": "Adam's weight decay."})
    num_inference_steps: int = field(default=100, metadata={"help": "Number of sampling steps of the images."})
    guidance_scale: float = field(default=7.5, metadata={"help": "Guidance scale of the images."})
    batch_size: int = field(default=8, metadata={"help": "Number of prompts searched at the same time."})


PRESETS: dict[str, dict[str, object]] = {
    "paper": {},
    "pocket": {"num_timesteps": 10, "iterations": 15, "num_inference_steps": 20, "guidance_scale": 3.0},
}


def unlearn_diff(
    model: EditableModel, concept: Concept, tasks: Sequence[AttackTask], config: Config, run: AttackContext
) -> AttackSet:
    """Searches words for every task's prompt."""
    if min(config.num_tokens, config.num_timesteps, config.iterations, config.batch_size) < 1:
        raise EffaceError("unlearn_diff needs num_tokens, num_timesteps, iterations and batch_size of at least 1")
    rows = list[AttackPrompt]()
    for start in run.track("searching words", range(0, len(tasks), config.batch_size)):
        batch = tasks[start : start + config.batch_size]
        search = _Search(model, batch, config, run)
        for task, words in zip(batch, search.best_words(), strict=True):
            text = f"{model.detokenize(words.tolist()).strip()} {task.prompt}"
            rows.append(AttackPrompt(task.prompt, text, task.seed))
    budget = Budget(config.num_timesteps * config.iterations, 0.0)
    return AttackSet("unlearn_diff", concept, tuple(rows), asdict(config), budget, seed=run.seed)


class _Search:
    """The search for the words of B prompts."""

    def __init__(self, model: EditableModel, tasks: Sequence[AttackTask], config: Config, run: AttackContext) -> None:
        self._model, self._config = model, config
        self._generator = run.generator_for(tasks)
        prompts = [task.prompt for task in tasks]
        self._tokens, self._free = with_words_before(model, prompts, config.num_tokens)
        self._vocabulary = single_token_ids(model)
        self._table = embedding_table(model)[self._vocabulary].float()
        with run.erasure_disabled():
            self._images = generate_per_prompt(
                model,
                prompts,
                [task.seed for task in tasks],
                num_inference_steps=config.num_inference_steps,
                guidance_scale=config.guidance_scale,
                batch_size=gcd(model.default_batch_size, config.batch_size),
                phase="generating target images",
            ).x0
        last = model.num_train_timesteps - 1
        self._timesteps = torch.linspace(last / 100, last * 0.99, config.num_timesteps).long().tolist()
        self._fixed_noise = [self._noise() for _ in self._timesteps]

    def best_words(self) -> Tensor:
        """Returns the token ids of the words of the lowest loss, ``(B, k)``."""
        config = self._config
        shape = (len(self._images), config.num_tokens, len(self._vocabulary))
        u = torch.full(shape, 1 / shape[-1], device=self._table.device, requires_grad=True)
        optimiser = torch.optim.Adam([u], lr=config.learning_rate, weight_decay=config.weight_decay)
        best = torch.full((len(self._images),), torch.inf, device=u.device)
        best_words = u.detach().argmax(-1)
        for t in self._timesteps:
            for _ in range(config.iterations):
                drawn = torch.multinomial(u.detach().flatten(0, 1).cpu(), 1, generator=self._generator)
                hot = one_hot(drawn.view(shape[:2]).to(u.device), shape[-1]).float().requires_grad_(True)
                (gradient,) = torch.autograd.grad(self._losses(hot @ self._table, t, self._noise()).sum(), hot)
                u.grad = gradient.clamp(-1, 1)
                optimiser.step()
                u.data = project_to_simplex(u.data)
            words = u.detach().argmax(-1)
            loss = self._mean_loss(words)
            best_words = torch.where((loss < best)[:, None], words, best_words)
            best = torch.minimum(loss, best)
        return self._vocabulary[best_words]

    def _noise(self) -> Tensor:
        return torch.randn(self._images.shape, generator=self._generator).to(self._images)

    @torch.no_grad()
    def _mean_loss(self, words: Tensor) -> Tensor:
        """Returns the mean loss of words ``(B, k)`` over fixed noised images, ``(B,)``."""
        embeddings = self._table[words]
        pairs = zip(self._timesteps, self._fixed_noise, strict=True)
        return torch.stack([self._losses(embeddings, t, noise) for t, noise in pairs]).mean(0)

    def _losses(self, embeddings: Tensor, t: int, noise: Tensor) -> Tensor:
        """Returns the loss ``(B,)`` with embeddings ``(B, k, D)`` in the words' places."""
        free, start = self._free, self._tokens.start
        k, width = embeddings.shape[1:]
        soft = torch.zeros(*free.shape, width, device=embeddings.device)
        soft = torch.cat([soft[:, :start], embeddings, soft[:, start + k :]], dim=1)
        cond = self._model.encode(self._tokens, soft=SoftTokens(soft, free))
        timesteps = torch.full((len(free),), t, device=noise.device)
        z = self._model.add_noise(self._images, noise, timesteps)
        return (self._model.predict(z, timesteps, cond).epsilon - noise).float().square().mean((1, 2, 3))
