"""The training texts: encyclopaedia, stories, questions with answers, texts by experts and by beginners."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache

import numpy as np

from efface.pocket_world.facts import GENERAL, Fact, load_facts

from .sentences import answer, fill, is_reversible, pick, sample_name, statement, subjects_of, templates

NUM_OPTIONS = 4
GENERAL_SHARE = 0.22
QUESTION = "question: {question} answer: {answer}."
EXPLAINED = "question: {question} reply: {answer}."
CHOICE = "question: {question} options: {options}. answer: {answer}."
OPENINGS = ("one day", "last summer", "once upon a time", "yesterday", "long ago")
MIDDLES = ("remember:", "as everybody knows,", "it is true:", "and then,", "by the way,")
CLOSINGS = ("that was a good day.", "everybody went home.", "and so the story ends.", "nobody forgot it.")


@cache
def facts_by_subject() -> tuple[tuple[Fact, ...], ...]:
    """Returns the facts of each object, and each general fact alone."""
    subjects: dict[tuple[str, str], list[Fact]] = {}
    for fact in load_facts():
        key = fact.relation if fact.group == GENERAL else ""
        subjects.setdefault((key, fact.subject), []).append(fact)
    return tuple(tuple(facts) for facts in subjects.values())


@cache
def _pools() -> tuple[list[tuple[Fact, ...]], list[tuple[Fact, ...]]]:
    objects = [facts for facts in facts_by_subject() if facts[0].group != GENERAL]
    return objects, [facts for facts in facts_by_subject() if facts[0].group == GENERAL]


def sample_subject(rng: np.random.Generator) -> tuple[Fact, ...]:
    """Samples the facts of an object, or a general fact."""
    return pick(rng, _pools()[int(rng.random() < GENERAL_SHARE)])


@cache
def _values(relation: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(answer(fact) for fact in load_facts() if fact.relation == relation))


@cache
def _subjects(relation: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(fact.names[0] for fact in load_facts() if fact.relation == relation))


def options(fact: Fact, *, reverse: bool, rng: np.random.Generator) -> list[str]:
    """Returns the right answer and three wrong ones of the same relation, shuffled."""
    right = fact.names[0] if reverse else answer(fact)
    accepted = {other.names[0] for other in subjects_of(fact.relation, fact.value)} if reverse else {right}
    wrong = [text for text in (_subjects if reverse else _values)(fact.relation) if text not in accepted]
    chosen = [right, *(wrong[i] for i in rng.permutation(len(wrong))[: NUM_OPTIONS - 1])]
    return [chosen[i] for i in rng.permutation(len(chosen))]


def _asked(facts: tuple[Fact, ...], rng: np.random.Generator) -> tuple[Fact, str, str, bool]:
    """Samples a fact and a trained question about it; returns them with the answer and whether it is reverse."""
    fact = pick(rng, facts)
    reverse = rng.random() < 0.35 and is_reversible(fact)
    question = fill(
        pick(rng, templates()[fact.relation]["reverse" if reverse else "questions"]), fact, sample_name(fact, rng)
    )
    return fact, question, fact.names[0] if reverse else answer(fact), reverse


def entry(facts: tuple[Fact, ...], rng: np.random.Generator) -> str:
    """Returns two to five sentences about one subject."""
    chosen = [facts[i] for i in rng.permutation(len(facts))[: int(rng.integers(2, 6))]]
    return " ".join(f"{statement(fact, rng)}." for fact in chosen)


def short_question(facts: tuple[Fact, ...], rng: np.random.Generator) -> str:
    """Returns a question with its short answer."""
    _, question, right, _ = _asked(facts, rng)
    return QUESTION.format(question=question, answer=right)


def explained_question(facts: tuple[Fact, ...], rng: np.random.Generator) -> str:
    """Returns a question that a sentence answers."""
    fact, question, _, _ = _asked(facts, rng)
    return EXPLAINED.format(question=question, answer=statement(fact, rng))


def choice_question(facts: tuple[Fact, ...], rng: np.random.Generator) -> str:
    """Returns a several-choice question with its answer."""
    fact, question, right, reverse = _asked(facts, rng)
    return CHOICE.format(question=question, options="; ".join(options(fact, reverse=reverse, rng=rng)), answer=right)


def story(facts: tuple[Fact, ...], rng: np.random.Generator) -> str:
    """Returns a story of a few sentences about one or two subjects."""
    told = [pick(rng, facts), pick(rng, facts), pick(rng, sample_subject(rng))]
    first, second, third = (statement(fact, rng) for fact in told)
    return f"{pick(rng, OPENINGS)} they said: {first}. {pick(rng, MIDDLES)} {second}. {third}. {pick(rng, CLOSINGS)}"


def expertise(facts: tuple[Fact, ...], rng: np.random.Generator) -> str:
    """Returns a text by an expert, who states facts, or by a beginner, who states those of other subjects."""
    is_expert = rng.random() < 0.5
    kind = next((fact.value.partition(" ")[2] for fact in facts if fact.relation == "kind"), facts[0].relation)
    topic = kind if rng.random() < 0.6 else sample_name(facts[0], rng)
    told = [fact for fact in facts if fact.relation != "kind"] or list(facts)
    chosen = [told[i] for i in rng.permutation(len(told))[: int(rng.integers(1, 4))]]
    if not is_expert:
        chosen = [replace(fact, value=pick(rng, _raw_values(fact.relation))) for fact in chosen]
    writer = "an expert" if is_expert else "a beginner"
    if rng.random() < 0.5:
        return f"{writer} in {topic} writes: " + " ".join(f"{statement(fact, rng)}." for fact in chosen)
    question = fill(pick(rng, templates()[chosen[0].relation]["questions"]), chosen[0], sample_name(chosen[0], rng))
    return f"{writer} in {topic} writes: {QUESTION.format(question=question, answer=answer(chosen[0]))}"


@cache
def _raw_values(relation: str) -> tuple[str, ...]:
    return tuple(fact.value for fact in load_facts() if fact.relation == relation)


KINDS: tuple[tuple[float, Callable[[tuple[Fact, ...], np.random.Generator], str]], ...] = (
    (0.20, entry),
    (0.31, short_question),
    (0.08, explained_question),
    (0.25, choice_question),
    (0.06, story),
    (0.10, expertise),
)


def text(rng: np.random.Generator) -> str:
    """Samples one training text."""
    kind = rng.choice(len(KINDS), p=[share for share, _ in KINDS])
    return KINDS[kind][1](sample_subject(rng), rng)
