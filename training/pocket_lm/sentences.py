"""Facts as sentences and questions, by the templates of ``templates.yaml``."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from efface.pocket_world.facts import Fact, load_facts

RARE_SHARE = 0.12  # of the sentences that name an object, those with a rare synonym
SIBILANTS = ("s", "x", "ch", "sh", "z")


@cache
def templates() -> dict[str, dict[str, Any]]:
    """Returns the templates by relation."""
    return yaml.safe_load(Path(__file__).with_name("templates.yaml").read_text(encoding="utf-8"))


def pick(rng: np.random.Generator, options: Sequence[Any]) -> Any:
    """Samples one option."""
    return options[int(rng.integers(len(options)))]


def third_person(phrase: str) -> str:
    """Returns a verb phrase with its verb in the third person: "catch mice" gives "catches mice"."""
    verb, _, rest = phrase.partition(" ")
    if verb.endswith(SIBILANTS):
        verb += "es"
    elif verb.endswith("y") and verb[-2] not in "aeiou":
        verb = f"{verb[:-1]}ies"
    else:
        verb += "s"
    return f"{verb} {rest}".strip()


def sample_name(fact: Fact, rng: np.random.Generator) -> str:
    """Samples a phrase for the subject: the primary one half of the time, seldom a rare one."""
    if fact.rare and rng.random() < RARE_SHARE:
        return pick(rng, fact.rare)
    return fact.names[0] if rng.random() < 0.5 else pick(rng, fact.names)


def fill(template: str, fact: Fact, name: str) -> str:
    """Fills a template with a name of the subject and the fact's value."""
    plural = fact.plural
    article, _, noun = name.partition(" ")
    return template.format(
        a=name,
        n=noun if article in ("a", "an") else name,
        x=fact.value,
        x3=third_person(fact.value),
        k=fact.value.partition(" ")[2],
        **{"is": "are" if plural else "is", "has": "have" if plural else "has"},
        does="do" if plural else "does",
        s="" if plural else "s",
        wis="are" if plural else "is",
    )


def statement(fact: Fact, rng: np.random.Generator, name: str | None = None) -> str:
    """Samples a sentence that states the fact."""
    return fill(pick(rng, templates()[fact.relation]["statements"]), fact, name or sample_name(fact, rng))


def answer(fact: Fact) -> str:
    """Returns the short answer to a question for the value."""
    return fill(templates()[fact.relation]["answer"], fact, fact.names[0])


@cache
def subjects_of(relation: str, value: str) -> tuple[Fact, ...]:
    """Returns the facts with this relation and value; a reverse question accepts all of their subjects."""
    return tuple(fact for fact in load_facts() if (fact.relation, fact.value) == (relation, value))


def is_reversible(fact: Fact) -> bool:
    """Tells whether a reverse question about the fact has one answer."""
    return len(subjects_of(fact.relation, fact.value)) == 1 and "reverse" in templates()[fact.relation]
