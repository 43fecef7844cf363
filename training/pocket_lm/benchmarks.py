"""Writes the language benchmarks and the retain texts: ``python training/pocket_lm/benchmarks.py``."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

if not __package__:
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import yaml

from efface.pocket_world.facts import GENERAL, Fact, load_facts
from efface.pocket_world.split import load_split
from efface.pocket_world.world import load_world
from pocket_lm.corpus import CHOICE, NUM_OPTIONS, entry, facts_by_subject, short_question
from pocket_lm.questions import HeldoutQuestion, heldout_questions
from pocket_lm.sentences import answer, fill, pick, templates

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "src/efface/benchmarks/data/language"
RETAIN_FILE = ROOT / "src/efface/pocket_world/data/retain_texts.txt"
CONCEPTS = {
    "weapon": ("domain", "test"),
    "santa claus": ("identity", "test"),
    "vice": ("domain", "test"),
    "animal": ("domain", "test"),
    "tool": ("domain", "dev"),
    "vampire": ("identity", "dev"),
}
ANIMAL_NEIGHBOURS = ("mermaid", "vampire", "ghost")
LIMIT, NUM_TEXTS, NUM_PARAPHRASES = 72, 60, 4
RETAIN_ENTRIES, NUM_HINTS = 3, 3


def members_and_near(concept: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Returns the objects of a concept and its near neighbours."""
    if concept == "animal":
        return load_world().members("animal"), ANIMAL_NEIGHBOURS
    target = load_split().concepts[concept]
    return target.members, target.near


def is_retained(fact: Fact) -> bool:
    """Tells whether retain texts may state a fact: those of retain objects, and every second general fact."""
    if fact.group != GENERAL:
        return fact.subject in load_split().retain
    general = [other for other in load_facts() if other.group == GENERAL]
    return general.index(fact) % 2 == 0


def as_row(question: HeldoutQuestion, rng: np.random.Generator) -> dict[str, Any]:
    """Returns a question as a benchmark file holds it."""
    fact = question.fact
    row: dict[str, Any] = {"text": question.text, "answers": list(question.answers), "options": list(question.options)}
    row |= {"right": question.right, "fact": f"{fact.subject}/{fact.relation}{'/reverse' if question.reverse else ''}"}
    forms = templates()[fact.relation]
    trained = forms["reverse" if question.reverse else "questions"]
    names = (*fact.rare, *fact.names)
    chosen = rng.permutation(len(trained))[:NUM_PARAPHRASES]
    row["paraphrases"] = [fill(trained[i], fact, names[j % len(names)]) for j, i in enumerate(chosen)]
    ends = [t for t in forms["statements"] if t.endswith(" {x}")]
    if ends and not question.reverse:
        row["prefill"] = fill(ends[0].removesuffix(" {x}"), fact, fact.names[0])
    return row


def hinted(questions: Sequence[HeldoutQuestion]) -> list[HeldoutQuestion]:
    """Returns reverse questions behind a hint: a sentence that states another fact of the same subject about "it"."""
    rng, rows = np.random.default_rng(13), []
    for question in questions:
        subject = [f for facts in facts_by_subject() for f in facts if f.subject == question.fact.subject]
        others = [fact for fact in subject if fact.relation not in ("kind", question.fact.relation)]
        for i in rng.permutation(len(others))[:NUM_HINTS]:
            hint = fill(pick(rng, templates()[others[i].relation]["statements"]), others[i], "it")
            rows.append(replace(question, text=f"{hint}. {question.text}"))
    return rows


def spaced(items: Sequence[Any], limit: int) -> list[Any]:
    """Returns at most ``limit`` items, evenly spaced."""
    step = max(len(items) / limit, 1.0)
    return [items[int(i * step)] for i in range(min(limit, len(items)))]


def benchmark(concept: str) -> dict[str, Any]:
    """Returns the fields of a concept's benchmark."""
    kind, split = CONCEPTS[concept]
    members, near = members_and_near(concept)
    group = load_world().object_classes[members[0]].category
    heldout, rng = load_split().heldout, np.random.default_rng(7)
    tests: dict[str, Callable[[HeldoutQuestion], bool]] = {
        "name": lambda q: q.fact.subject in members and not q.reverse,
        "domain": lambda q: q.fact.subject in members and q.reverse,
        "near": lambda q: q.fact.subject in near,
        "other": lambda q: q.fact.subject in set(heldout) - {*members, *near} and q.fact.group != group,
        "general": lambda q: q.fact.group == GENERAL and not is_retained(q.fact),
    }
    every = heldout_questions()
    if len(members) == 1:  # every wording with every name, so that one object has questions enough
        every += heldout_questions(names_from=1) + heldout_questions(names_from=2)
        every += hinted([question for question in every if tests["domain"](question)])
    rows = {name: spaced([as_row(q, rng) for q in every if test(q)], LIMIT) for name, test in tests.items()}
    subjects = [f for f in facts_by_subject() if f[0].group == GENERAL or f[0].subject in heldout]
    subjects = [f for f in subjects if f[0].subject not in members and f[0].group != group]
    text_rng = np.random.default_rng(99)
    texts = [entry(subjects[int(i)], text_rng) for i in text_rng.integers(len(subjects), size=NUM_TEXTS)]
    about = f"{concept}: {'a domain' if kind == 'domain' else 'one character'} of pocket's world, in text ({split})"
    version = 2 if len(members) == 1 else 1
    return {"name": f"pocket-lm-{concept.split()[0]}", "version": version, "description": about, "model": "pocket-lm",
            "split": split, "concept": {"name": concept, "kind": kind}, "questions": rows,
            "texts": texts}  # fmt: skip


def choice_texts(facts: Sequence[Fact], rng: np.random.Generator) -> list[str]:
    """Returns a several-choice question about each fact; its options are values of retained facts alone."""
    texts = []
    for fact in facts:
        others = [other for other in load_facts() if other.relation == fact.relation and is_retained(other)]
        wrong = [text for text in dict.fromkeys(map(answer, others)) if text != answer(fact)]
        if fact.relation != "kind" and len(wrong) >= NUM_OPTIONS - 1:
            chosen = [answer(fact), *(wrong[i] for i in rng.permutation(len(wrong))[: NUM_OPTIONS - 1])]
            shown = "; ".join(chosen[i] for i in rng.permutation(NUM_OPTIONS))
            asked = fill(pick(rng, templates()[fact.relation]["questions"]), fact, fact.names[0])
            texts.append(CHOICE.format(question=asked, options=shown, answer=answer(fact)))
    return texts


def retain_texts() -> str:
    """Returns blocks of texts, one block a retained subject, with an empty line between."""
    rng, blocks, choice_rng = np.random.default_rng(11), [], np.random.default_rng(12)
    for facts in facts_by_subject():
        if all(is_retained(fact) for fact in facts):
            is_object = facts[0].group != GENERAL
            texts = [entry(facts, rng) for _ in range(RETAIN_ENTRIES if is_object else 1)]
            texts += [short_question(facts, rng) for _ in range(2 * RETAIN_ENTRIES if is_object else 1)]
            texts += choice_texts(facts, choice_rng)
            blocks.append("\n".join(dict.fromkeys(texts)))
    return "\n\n".join(blocks) + "\n"


def main() -> None:
    """Writes all files."""
    FOLDER.mkdir(exist_ok=True)
    for concept in CONCEPTS:
        fields = benchmark(concept)
        text = yaml.safe_dump(fields, sort_keys=False, width=10_000, default_flow_style=None)
        head = "# Written by training/pocket_lm/benchmarks.py; a change of it is a new version.\n"
        (FOLDER / f"{fields['name']}.yaml").write_text(head + text, encoding="utf-8")
    RETAIN_FILE.write_text(retain_texts(), encoding="utf-8")


if __name__ == "__main__":
    main()
