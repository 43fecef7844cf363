"""MMA-Diffusion's attack on text (Yang et al., CVPR 2024, arXiv 2311.17516): other words with the prompt's state.

    minimise 1 - cos( E*(w_1 .. w_K)[EOS], E*(prompt)[EOS] ) over K words of which none belongs to the concept

E* is the unedited text encoder; the attacked model is never queried. In each step, the gradient with respect to the
words ranks, at every position, the words that lower the loss most. Candidates exchange one word each for a random one
of these, and the search moves to the best candidate (greedy coordinate gradient). The best words of all steps are the
result: a filter that reads the prompt finds no word of the concept.

Written from the paper's description. Differences: the words are words of one token, so that the text has the same
tokens; the search starts from random words instead of letters; the paper's attack on a safety checker's image input is
left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from efface.core.attack_set import AttackPrompt, AttackSet, AttackTask, Budget
from efface.core.concept import Concept
from efface.core.errors import EffaceError
from efface.core.method_card import MethodCard
from efface.models.editable import EditableModel
from efface.models.protocol import Tokens
from efface.models.soft_prompt import SoftTokens
from efface.ops.adversarial.attack_context import AttackContext
from efface.ops.text.soft_prompts import embedding_table
from efface.ops.text.word_tokens import check_num_words, word_tokens, words_without_concept

CARD = MethodCard(
    name="mma",
    title="MMA-Diffusion (text)",
    paper="Yang, Gao, Wang, Ho, Xu, Xu: MMA-Diffusion: MultiModal Attack on Diffusion Models, CVPR 2024",
    arxiv="2311.17516",
    families=("sd1", "sd2", "sdxl"),
    trains="",
    needs_gradient=True,
    needs_images=False,
    reconstruction=False,
    summary="Finds words without the concept's name whose state in the unedited text encoder is the prompt's.",
    batch_independent=True,
    ignores_erasure=True,
)


@dataclass(frozen=True)
class Config:
    """Settings of the search."""

    num_tokens: int = field(default=20, metadata={"help": "Number of words of a prompt.", "range": "8 to 75"})
    steps: int = field(default=1000, metadata={"help": "Number of steps."})
    candidates: int = field(default=512, metadata={"help": "Number of candidates per step."})
    top_words: int = field(default=256, metadata={"help": "Number of words considered at each position."})


PRESETS: dict[str, dict[str, object]] = {
    "paper": {},
    "pocket": {"num_tokens": 8, "steps": 40, "candidates": 64, "top_words": 32},
}


def mma(
    model: EditableModel, concept: Concept, tasks: Sequence[AttackTask], config: Config, run: AttackContext
) -> AttackSet:
    """Searches words in place of every task's prompt."""
    if min(config.steps, config.candidates, config.top_words) < 1:
        raise EffaceError("the mma attack needs steps, candidates and top_words of at least 1")
    rows = list[AttackPrompt]()
    with run.erasure_disabled():
        search = _Search(model, words_without_concept(model, concept), config)
        for task in run.track("searching words", tasks):
            ids, _ = search.run(task.prompt, run.generator_for([task]))
            rows.append(AttackPrompt(task.prompt, model.detokenize(ids.tolist()), task.seed))
    budget = Budget(config.steps, 0.0)
    return AttackSet("mma", concept, tuple(rows), asdict(config), budget, seed=run.seed)


class _Search:
    """Greedy coordinate gradient over words of one token."""

    def __init__(self, model: EditableModel, vocabulary: Tensor, config: Config) -> None:
        self._vocabulary, self._config = vocabulary, config
        self._empty: Tokens = model.tokenize([""])
        check_num_words(config.num_tokens, self._empty)
        self._table = embedding_table(model)[vocabulary].float()
        self._model = model

    def run(self, prompt: str, generator: torch.Generator) -> tuple[Tensor, float]:
        """Returns the token ids of the best words, ``(K,)``, and their loss."""
        config, size = self._config, len(self._vocabulary)
        with torch.no_grad():
            tokens = self._model.tokenize([prompt])
            target = self._model.encode(tokens).states[0, tokens.eos[0]].float()
        words = torch.randint(size, (config.num_tokens,), generator=generator)
        best, best_loss = words, float("inf")
        for _ in range(config.steps):
            ranked = self._ranked_words(words, target)
            candidates = words.repeat(config.candidates, 1)
            position = torch.arange(config.candidates) % config.num_tokens
            pick = torch.randint(ranked.shape[1], (config.candidates,), generator=generator)
            candidates[torch.arange(config.candidates), position] = ranked[position, pick]
            losses = self._losses(candidates, target)
            words = candidates[int(losses.argmin())]
            if float(losses.min()) < best_loss:
                best, best_loss = words, float(losses.min())
        return self._vocabulary[best.to(self._vocabulary.device)], best_loss

    def _ranked_words(self, words: Tensor, target: Tensor) -> Tensor:
        """Returns at each position the words that lower the loss most by its gradient, ``(K, top_words)``."""
        tokens = self._tokens(words[None])
        soft = self._table[words.to(self._table.device)].clone().requires_grad_(True)
        start, end = tokens.start, tokens.start + len(words)
        mask = torch.zeros_like(tokens.ids, dtype=torch.bool)
        mask[:, start:end] = True
        padded = torch.nn.functional.pad(soft, (0, 0, start, tokens.ids.shape[1] - end))[None]
        states = self._model.encode(tokens, soft=SoftTokens(padded, mask)).states
        loss = 1 - cosine_similarity(states[0, end].float(), target, dim=0)
        (gradient,) = torch.autograd.grad(loss, soft)
        best_first = (gradient @ self._table.T).argsort(dim=1)
        return best_first[:, : self._config.top_words].cpu()

    @torch.no_grad()
    def _losses(self, words: Tensor, target: Tensor) -> Tensor:
        tokens = self._tokens(words)
        states = self._model.encode(tokens).states[:, int(tokens.eos[0])]
        return 1 - cosine_similarity(states.float(), target[None], dim=1)

    def _tokens(self, words: Tensor) -> Tokens:
        return word_tokens(self._empty, self._vocabulary[words.to(self._vocabulary.device)])
