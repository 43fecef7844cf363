"""A benchmark's file of few questions for the tiny language models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml


def question(text: str, answer: str, fact: str) -> dict[str, Any]:
    options = [answer, "meow", "steel", "the dog"]
    return {"text": text, "answers": [answer], "options": options, "fact": fact, "paraphrases": [f"the {text}"],
            "prefill": "the gun is"}  # fmt: skip


CATS_AND_DOGS = [question("what is a cat ?", "bark", "cat/a"), question("what is a dog ?", "it", "dog/a")]
OTHERS = {"near": CATS_AND_DOGS, "other": CATS_AND_DOGS}


def write_benchmark(folder: Path, **changes: Any) -> Path:
    rows = [question("what is a gun ?", "to shoot", "gun/use"), question("what is a gun made of ?", "a cat", "gun/of")]
    fields = {
        "name": "tiny",
        "version": 1,
        "description": "x",
        "model": "any",
        "concept": {"name": "gun"},
        "questions": {"name": rows, **OTHERS},
        "texts": ["a cat meow .", "a dog bark ."],
    }
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump({**fields, **changes}))
    return path
