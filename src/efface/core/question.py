"""A question with its accepted answers, as benchmarks for language models ask it and their attacks change it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from .errors import EffaceError, check_known_keys

FREE_PROMPT = "question: {question} answer:"
CHOICE_PROMPT = "question: {question} options: {options}. answer:"
_ARTICLES = ("to ", "a ", "an ", "the ")


@dataclass(frozen=True)
class Question:
    """A question.

    Attributes:
        text: the question.
        answers: accepted short answers; case, article and "to" do not count.
        options: several choices; empty if it is asked freely only.
        right: index of the right choice.
        fact: id of the fact that it asks for; questions of one fact are clustered.
        paraphrases: the same question in other words, for attacks.
        prefill: beginning of a sentence that the answer completes, for attacks; empty if there is none.
    """

    text: str
    answers: tuple[str, ...]
    options: tuple[str, ...] = ()
    right: int = 0
    fact: str = ""
    paraphrases: tuple[str, ...] = ()
    prefill: str = ""

    def __post_init__(self) -> None:
        for name in ("answers", "options", "paraphrases"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if not self.text or not self.answers:
            raise EffaceError(f"the question {self.text!r} has no text or no answers: give both")
        if self.options and not 0 <= self.right < len(self.options):
            raise EffaceError(f"the question {self.text!r} has no option {self.right}: it has {len(self.options)}")

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Question:
        """Reads a question; raises `EffaceError` for unknown or missing fields."""
        check_known_keys("question field", data, (item.name for item in fields(cls)))
        try:
            return cls(**data)
        except TypeError as error:
            raise EffaceError(f"a question is incomplete ({error})") from error

    @property
    def prompt(self) -> str:
        """The question as a prompt for a free answer."""
        return FREE_PROMPT.format(question=self.text)

    @property
    def choice_prompt(self) -> str:
        """The question with its options as a prompt."""
        return CHOICE_PROMPT.format(question=self.text, options="; ".join(self.options))

    def accepts(self, answer: str) -> bool:
        """Returns whether an answer, up to its first full stop, equals an accepted one."""
        return normalise(answer) in {normalise(text) for text in self.answers}


def normalise(answer: str) -> str:
    """Returns an answer's first sentence in lower case, without the infinitive marker and the article."""
    phrase = re.split(r"[.\n]", answer.strip(), maxsplit=1)[0].strip().lower()
    for start in _ARTICLES:
        phrase = phrase.removeprefix(start)
    return phrase


def facts_of(questions: Sequence[Question]) -> list[str]:
    """Returns the cluster of every question: its fact, or its text."""
    return [question.fact or question.text for question in questions]
