"""Accuracy of pocket-lm on the test questions, and its perplexity on new texts."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from .corpus import text
from .questions import HeldoutQuestion

ANSWER_TOKENS = 14
Rows = list[tuple[list[int], list[int]]]


def normalise(answer: str) -> str:
    """Returns an answer without its end, article and infinitive marker."""
    phrase = answer.split(".")[0].strip().lower()
    for start in ("to ", "a ", "an ", "the "):
        phrase = phrase.removeprefix(start)
    return phrase


def _logits(model: LlamaForCausalLM, rows: list[list[int]]) -> Tensor:
    width = max(map(len, rows))
    ids = torch.tensor([row + [0] * (width - len(row)) for row in rows])
    return model(ids).logits.float()


@torch.no_grad()
def log_likelihoods(model: LlamaForCausalLM, rows: Rows) -> list[float]:
    """Returns the log-likelihood of every continuation given its prompt (token ids)."""
    logits = _logits(model, [prompt + rest for prompt, rest in rows]).log_softmax(-1)
    sums = []
    for i, (prompt, rest) in enumerate(rows):
        at = torch.arange(len(prompt) - 1, len(prompt) + len(rest) - 1)
        sums.append(float(logits[i, at, torch.tensor(rest)].sum()))
    return sums


def choice_accuracy(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, questions: list[HeldoutQuestion]
) -> float:
    """Returns the share of several-choice questions whose right option is the likeliest."""
    right = 0
    for question in questions:
        prompt = tokenizer(f"question: {question.text} options: {'; '.join(question.options)}. answer:").input_ids
        rows = [(prompt, tokenizer(f"{option}.", add_special_tokens=False).input_ids) for option in question.options]
        right += int(np.argmax(log_likelihoods(model, rows))) == question.right
    return right / len(questions)


@torch.no_grad()
def free_answers(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, questions: list[HeldoutQuestion]
) -> list[str]:
    """Returns the greedy answers."""
    answers = []
    for question in questions:
        ids = tokenizer(f"question: {question.text} answer:", return_tensors="pt")
        out = model.generate(**ids, max_new_tokens=ANSWER_TOKENS, do_sample=False, pad_token_id=tokenizer.pad_token_id)
        answers.append(tokenizer.decode(out[0, ids.input_ids.shape[1] :], skip_special_tokens=True))
    return answers


def free_accuracy(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, questions: list[HeldoutQuestion]
) -> float:
    """Returns the share of free answers that match an accepted form exactly."""
    answers = free_answers(model, tokenizer, questions)
    pairs = zip(answers, questions, strict=True)
    return sum(normalise(a) in {normalise(x) for x in q.answers} for a, q in pairs) / len(questions)


@torch.no_grad()
def perplexity(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, *, seed: int, n: int = 400) -> float:
    """Returns the perplexity by token on texts that training did not sample."""
    rng, total, count = np.random.default_rng([seed, 7]), 0.0, 0
    for _ in range(n):
        ids = torch.tensor([tokenizer(text(rng)).input_ids])
        total += float(cross_entropy(model(ids).logits[0, :-1], ids[0, 1:], reduction="sum"))
        count += ids.shape[1] - 1
    return math.exp(total / count)
