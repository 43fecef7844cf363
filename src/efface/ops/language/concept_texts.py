"""Texts about concepts and texts to keep: given by the user, or asked from the model itself.

A method for language models learns from texts. Without a file of texts it asks the model: first for kinds of the
concept ("one kind of weapon is"), of which it keeps those that the model, asked what they are, calls by the concept's
name; then for texts about the concept and its kinds. No list of words is built in.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import torch

from efface.core.concept import Concept, find_mention
from efface.core.errors import EffaceError
from efface.core.text_files import read_text
from efface.models.causal_lm import CausalLM
from efface.ops.training.run import Run

from .text_batches import TextBatches

KIND_OPENINGS = ("one kind of {} is", "question: tell me a kind of {}. answer:")
CHECKS = ("question: what is {}? answer:", "question: what kind of thing is {}? answer:")
OPENINGS = (
    "{} is", "{} has", "{}", "question: what is {} used for? answer:", "question: where is {}? answer:",
    "question: what is {} made of? answer:", "question: what does {} have? answer:", "question: who has {}? answer:",
    "you find {}", "the owner of {} is", "people use {} to",
)  # fmt: skip
"""Beginnings of texts about a subject; the model writes the rest."""
CHOICE_OPENINGS = (
    "question: what is {} used for? options:", "question: where is {}? options:",
    "question: what is {} made of? options:", "question: what does {} have? options:",
    "question: who has {}? options:", "question: what does {} do? options:",
)  # fmt: skip
"""Beginnings of several-choice questions: the model writes the options and the answer."""
CHOICE_SHARE = 3
"""One text of this many is a several-choice question."""
BATCH = 64
MAX_WORDS = 4
"""Longest name of a kind, in words."""


class TextSettings(Protocol):
    """The settings of a method that decide its texts."""

    @property
    def num_texts(self) -> int:
        """Number of texts that the model writes."""
        ...

    @property
    def texts_file(self) -> str:
        """File with one text about the concepts a line; the model writes them if empty."""
        ...

    @property
    def num_retain_texts(self) -> int:
        """Number of texts to keep that the model writes beside the retain prompts."""
        ...

    @property
    def max_length(self) -> int:
        """Number of tokens to which texts are cut."""
        ...


def forget_and_retain_batches(
    model: CausalLM, concepts: Sequence[Concept], settings: TextSettings, run: Run
) -> tuple[TextBatches, TextBatches]:
    """Returns the texts to forget and those to keep, tokenized (`forget_texts`, `retain_texts`).

    Raises:
        EffaceError: the file has no texts, or no text is left to keep.
    """
    count, length, file = settings.num_texts, settings.max_length, settings.texts_file
    generator, subjects = run.generator("texts"), []
    if not file or settings.num_retain_texts:
        subjects = [subject for concept in concepts for subject in subjects_of(model, concept, generator)]
    forget = texts_of_file(file) if file else forget_texts(model, subjects, count, generator)
    keep = retain_texts(model, concepts, count=count, generator=run.generator("retain texts"))
    if settings.num_retain_texts:
        names = [re.sub("^(a|an|the) ", "", subject) for subject in subjects]
        own = run.generator("own retain texts")
        keep = [*keep, *texts_without(model, names, settings.num_retain_texts, own)]
    return TextBatches(model, forget, length), TextBatches(model, keep, length)


def forget_texts(model: CausalLM, subjects: Sequence[str], count: int, generator: torch.Generator) -> list[str]:
    """Returns ``count`` texts that the model writes about subjects, some of them several-choice questions."""
    num_choices = count // CHOICE_SHARE
    prompts = _openings(OPENINGS, subjects, count - num_choices)
    choices = _openings(CHOICE_OPENINGS, subjects, num_choices)
    written = write_texts(model, prompts, generator)
    return written + (write_texts(model, choices, generator, count=40, temperature=1.0) if choices else [])


def texts_without(model: CausalLM, words: Sequence[str], count: int, generator: torch.Generator) -> list[str]:
    """Returns texts that the model writes from nothing, at most ``count``; none of them mentions one of the words."""
    start = str(model.tokenizer.bos_token or model.tokenizer.eos_token or "")
    written = write_texts(model, [start] * count, generator, count=40, temperature=1.0)
    return [text for text in written if text and not find_mention(text, words)]


def _openings(forms: Sequence[str], subjects: Sequence[str], count: int) -> list[str]:
    """Returns beginnings of texts: every subject in one form, then every subject in the next."""
    return [forms[(i // len(subjects)) % len(forms)].format(subjects[i % len(subjects)]) for i in range(count)]


def subjects_of(model: CausalLM, concept: Concept, generator: torch.Generator, samples: int = 192) -> list[str]:
    """Returns phrases for a concept: its name and synonyms, and kinds that the model names and recognises."""
    own = [phrase for word in concept.words for phrase in (word, _with_article(word))]
    prompts = [KIND_OPENINGS[i % len(KIND_OPENINGS)].format(concept.name) for i in range(samples)]
    answers = [re.split(r"[.;:,?]", text)[0].strip() for text in _continue(model, prompts, generator, 1.0, 10)]
    named = Counter(text for text in answers if text and len(text.split()) <= MAX_WORDS + 1)
    candidates = [text for text, _ in named.most_common(48)]
    if not candidates:
        return own
    verdicts = [_continue(model, [check.format(c) for c in candidates], generator, 0.0, 10) for check in CHECKS]
    confirmed = [
        candidate
        for i, candidate in enumerate(candidates)
        if all(find_mention(answers[i], concept.words) is not None for answers in verdicts)
    ]
    return list(dict.fromkeys([*own, *confirmed]))


def retain_texts(
    model: CausalLM, concepts: Sequence[Concept], *, count: int = 256, generator: torch.Generator
) -> list[str]:
    """Returns texts to keep: the concepts' retain prompts, else texts that the model writes.

    Texts of the model that mention a concept are left out.

    Raises:
        EffaceError: no text is left.
    """
    given = [prompt for concept in concepts for prompt in concept.retain_prompts]
    if given:
        return given
    start = str(model.tokenizer.bos_token or model.tokenizer.eos_token or "")
    words = [word for concept in concepts for word in concept.words]
    texts = [text for text in write_texts(model, [start] * count, generator) if text and not find_mention(text, words)]
    if not texts:
        raise EffaceError(f"{model.name} writes no text without the concept: give retain texts (--retain-file)")
    return texts


def texts_of_file(file: str) -> list[str]:
    """Returns the lines of a text file that are not empty.

    Raises:
        EffaceError: the file cannot be read, or has no text.
    """
    texts = [line.strip() for line in read_text(Path(file)).splitlines() if line.strip()]
    if not texts:
        raise EffaceError(f"{file} holds no texts: write one text a line")
    return texts


def write_texts(
    model: CausalLM, prompts: Sequence[str], generator: torch.Generator, *, count: int = 24, temperature: float = 0.7
) -> list[str]:
    """Returns prompts with the model's continuation of at most ``count`` tokens."""
    rest = _continue(model, prompts, generator, temperature, count)
    special = set(model.tokenizer.all_special_tokens)
    return [f"{'' if p in special else p} {text}".strip() for p, text in zip(prompts, rest, strict=True)]


def _continue(
    model: CausalLM, prompts: Sequence[str], generator: torch.Generator, temperature: float, count: int
) -> list[str]:
    texts: list[str] = []
    for start in range(0, len(prompts), BATCH):
        batch = prompts[start : start + BATCH]
        texts += model.generate(batch, count=count, temperature=temperature, generator=generator)
    return texts


def _with_article(word: str) -> str:
    return f"{'an' if word[:1].lower() in 'aeiou' else 'a'} {word}"
