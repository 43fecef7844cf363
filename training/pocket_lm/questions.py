"""Test questions: worded by the templates that training never uses."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from efface.pocket_world.facts import Fact, load_facts

from .corpus import options
from .sentences import answer, fill, is_reversible, subjects_of, templates


@dataclass(frozen=True)
class HeldoutQuestion:
    """A test question.

    Attributes:
        fact: the fact that it asks for.
        text: the question.
        answers: accepted short answers.
        options: several choices, the right one among them.
        right: index of the right choice.
        reverse: whether it asks for the subject.
    """

    fact: Fact
    text: str
    answers: tuple[str, ...]
    options: tuple[str, ...]
    right: int
    reverse: bool


def _question(fact: Fact, template: str, name: str, *, reverse: bool, rng: np.random.Generator) -> HeldoutQuestion:
    choices = options(fact, reverse=reverse, rng=rng)
    subjects = subjects_of(fact.relation, fact.value)
    answers = tuple(n for s in subjects for n in (*s.names, *s.rare)) if reverse else (answer(fact),)
    right = choices.index(fact.names[0] if reverse else answer(fact))
    return HeldoutQuestion(fact, fill(template, fact, name), answers, tuple(choices), right, reverse)


def heldout_questions(seed: int = 20_000, names_from: int = 0) -> list[HeldoutQuestion]:
    """Returns every test question of every fact; names of an object alternate, from the given one on."""
    rng = np.random.default_rng([seed, 3])
    questions = []
    for fact in load_facts():
        forms = templates()[fact.relation]
        for i, template in enumerate(forms["test_questions"]):
            name = fact.names[(i + names_from) % len(fact.names)]
            questions.append(_question(fact, template, name, reverse=False, rng=rng))
        for template in forms.get("test_reverse", ()) if is_reversible(fact) and not names_from else ():
            questions.append(_question(fact, template, fact.names[0], reverse=True, rng=rng))
    return questions
