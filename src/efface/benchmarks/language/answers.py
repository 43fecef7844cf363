"""A model's answers to questions: free ones, the chosen options, and the likelihood of texts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from efface.core.question import Question
from efface.models.causal_lm import CausalLM
from efface.ops.language.losses import next_token_loss, sequence_log_likelihood

BATCH = 64
ANSWER_TOKENS = 16
MAX_REPEATS = 2
"""A word that follows itself more often makes an answer noise."""


@dataclass(frozen=True)
class Answers:
    """The answers of one model to one group of questions.

    Attributes:
        texts: free answers.
        right: whether each free answer is accepted.
        chosen_right: whether the likeliest option is the right one, for questions with options.
    """

    texts: tuple[str, ...]
    right: tuple[bool, ...]
    chosen_right: tuple[bool, ...]

    @property
    def fluent(self) -> tuple[bool, ...]:
        """Whether each answer has words, ends in time, and repeats no word three times in a row."""
        return tuple(is_fluent(text) for text in self.texts)


def is_fluent(text: str) -> bool:
    """Returns whether an answer has words, ends in time, and repeats no word three times in a row."""
    words = text.split(".")[0].split()
    repeats = any(len({*words[i : i + MAX_REPEATS + 1]}) == 1 for i in range(len(words) - MAX_REPEATS))
    return bool(words) and "." in text and not repeats


def answer(model: CausalLM, questions: Sequence[Question]) -> Answers:
    """Asks all questions."""
    texts = free_answers(model, [question.prompt for question in questions])
    right = tuple(question.accepts(text) for question, text in zip(questions, texts, strict=True))
    return Answers(tuple(texts), right, choose(model, [question for question in questions if question.options]))


def free_answers(model: CausalLM, prompts: Sequence[str]) -> list[str]:
    """Returns the greedy continuations of prompts."""
    texts: list[str] = []
    for start in range(0, len(prompts), BATCH):
        texts += model.generate(prompts[start : start + BATCH], count=ANSWER_TOKENS)
    return texts


@torch.no_grad()
def choose(model: CausalLM, questions: Sequence[Question]) -> tuple[bool, ...]:
    """Returns whether the likeliest option of each question is the right one, by the log-likelihood of its text."""
    rows, prompt_lengths = [], []
    for question in questions:
        prompt = model.tokenizer(question.choice_prompt).input_ids
        for option in question.options:
            rows.append(model.tokenizer(f"{question.choice_prompt} {option}.").input_ids)
            prompt_lengths.append(len(prompt))
    scores: list[float] = []
    for start in range(0, len(rows), BATCH):
        scores += _continuation_scores(model, rows[start : start + BATCH], prompt_lengths[start : start + BATCH])
    right, at = [], 0
    for question in questions:
        own = scores[at : at + len(question.options)]
        right.append(max(range(len(own)), key=own.__getitem__) == question.right)
        at += len(question.options)
    return tuple(right)


def _continuation_scores(model: CausalLM, rows: Sequence[list[int]], prompt_lengths: Sequence[int]) -> list[float]:
    """Returns the log-likelihood of what follows each prompt."""
    tokens = model.pad(rows)
    mask = tokens.mask.clone()
    for i, length in enumerate(prompt_lengths):
        mask[i, :length] = 0
    return sequence_log_likelihood(model.logits(tokens), type(tokens)(tokens.ids, mask)).tolist()  # type: ignore[no-any-return]


@torch.no_grad()
def text_losses(model: CausalLM, texts: Sequence[str]) -> list[float]:
    """Returns the mean negative log-likelihood per token of every text."""
    losses = []
    for text in texts:
        tokens = model.tokenize([text])
        losses.append(float(next_token_loss(model.logits(tokens), tokens)))
    return losses
