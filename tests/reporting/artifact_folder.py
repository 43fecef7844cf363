"""Builds an artifact's folder with evidence from the real types and a few small images."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from efface.core.concept import Concept
from efface.core.erasure import Cost, Edit, Erasure
from efface.core.result import DetectorId, Provenance, Result, Score
from efface.core.spec import RunSpec

HOSTILE = '<script>alert("x")</script> & <img src=http://evil.example/a.png>'
JUDGE = DetectorId("pocket-judge", "1", 0.41)
WEAPONS = ["knife", "dagger"]
EVALUATION = "pocket-weapon-test-20000"


def saved_erasure(folder: Path, **changes: Any) -> Erasure:
    concept = Concept("weapon", kind="domain", synonyms=("gun",), retain_prompts=("a photo of a wrench",))
    fields: dict[str, Any] = {
        "config": {"learning_rate": 2e-4, "steps": 300, "erase_from": False},
        "concepts": (concept,),
        "seed": 7,
    }
    spec = RunSpec("pocket", {"unet": "aa", "text_encoder": {"sketch": [1, 2]}}, "esd", **{**fields, **changes})
    edits = (
        Edit("unet", "replace", {"mid.weight": "t"}),
        Edit("sampler", "guidance", gate={"from": 0.5}, params={"scale": 2.5}),
    )
    history = {
        "train": [{"step": i, "loss": 0.5 / (i + 1), "anchor": 0.1 / (i + 1), "grad_norm": 1.0} for i in range(30)]
    }
    notes = {"domain_words": {"weapon": ["dagger", "bow"]}, "most_drifted_words": {"fork": 0.061, "tool": 0.04}}
    cost, effect = Cost(18.4, 592134144), {"concept": 1.1043, "retained": 0.05, "num_images": 8, "notes": notes}
    erasure = Erasure(spec, edits, {"t": np.ones((2, 2), "f2")}, cost, effect, {"python": "3.11.7"})
    return erasure.save(folder, "# Card\n", {"history.json": json.dumps(history).encode()})


def rate(metric: str, group: str, hits: float, n: int = 120, **extra: Any) -> Score:
    return Score.rate(metric, group, hits, n, JUDGE, Provenance("ab" * 32, (3, 4, 5, 9), "ddim", 20, 3.0, **extra))


def scores(near: float = 118, broken: float = 4, attacked: bool = True) -> tuple[Score, ...]:
    attacks = attack_scores(broken) if attacked else ()
    refused = Score("fid", "other", None, None, None, 120, None, Provenance(extra={"refused": "n is below 2048"}))
    return (
        rate("rer", "name", 118), rate("rer", "domain", 116),
        rate("abstention_rate", "name", 6), rate("abstention_rate", "domain", 7),
        rate("retention", "context", 110), rate("retention", "near", near), rate("retention", "other", 118),
        rate("retention_style", "near", 119),
        Score("kid", "other", 0.00123, 0.0004, 0.0021, 240, DetectorId("pocket-judge", "1")), refused,
        *attacks,
    )  # fmt: skip


def attack_scores(broken: float, label: str = "synonyms") -> tuple[Score, ...]:
    return rate("asr_pre", label, 1), rate("asr_post", label, broken, attack_steps=40, attack_seconds=12.5)


def result(metadata: Mapping[str, Any] | None = None, **changed: Any) -> Result:
    benchmark = {"name": "pocket-weapon", "concept": "weapon", "version": 1, "split": "test", "hash": "cd" * 32}
    defaults = {"benchmark": benchmark, "seed": 20000, "created": "2026-03-02T10:11:12+00:00"}
    return Result(scores(**changed), {**defaults, **(metadata or {})})


def evaluate(folder: Path, name: str = EVALUATION, evaluated: Result | None = None) -> Path:
    evaluation = folder / "evidence" / name
    (evaluation / "images").mkdir(parents=True)
    of_this_run(folder, evaluated or result()).save(evaluation / "result.json")
    rows = [_row(evaluation, i, group) for i, group in enumerate(("name", "domain", "near", "other", "synonyms"))]
    (evaluation / "images.json").write_text(json.dumps(rows))
    bars = {"before": 0.9, "before_low": 0.8, "before_high": 0.95, "after": 0.3, "after_low": 0.2, "after_high": 0.4}
    changes = {"change": -0.6, "change_low": -0.7, "change_high": -0.4}
    (evaluation / "interference.json").write_text(json.dumps([{"object": "hammer", "n": 24, **bars, **changes}]))
    return evaluation


def of_this_run(folder: Path, evaluated: Result) -> Result:
    """The result as measured on the erasure in the folder, unless it states another run."""
    run = {"erasure_hash": Erasure.load(folder).spec.hash}
    return replace(evaluated, metadata={**run, **evaluated.metadata})


def _row(evaluation: Path, i: int, group: str) -> dict[str, Any]:
    concept = group in ("name", "domain", "synonyms")
    for when, shade in (("before", 40 * i), ("after", 40 * i + 20)):
        Image.new("RGB", (64, 64), (shade, 10, 20)).save(evaluation / f"images/{i:03}-{when}.png")
    detected_after = {"name": "tree", "domain": "dagger", "near": "cat"}.get(group, "cannot tell")
    row = {
        "group": group,
        "prompt": f"a photo of {group}",
        "text": f"a photo of {group}",
        "seed": 100 + i,
        "before": f"images/{i:03}-before.png",
        "after": f"images/{i:03}-after.png",
        "detected_before": {"object": "knife" if concept else "cat", "background": "snow"},
        "detected_after": {"object": detected_after, "background": "snow"},
        "expected": {"object": WEAPONS if concept else ["cat"], "background": ["snow"]},
    }
    if group == "synonyms":  # an attack generates no images before
        row |= {"text": HOSTILE, "before": None, "detected_before": None}
    return row


def attack(folder: Path, prompts: int = 30, label: str = "synonyms", evaluated: Result | None = None) -> None:
    """Saves an attack set, with its scores if they are given."""
    attack_folder = folder / "evidence" / "attacks" / label
    attack_folder.mkdir(parents=True)
    rows = [
        {"source_prompt": f"a weapon {i}", "adversarial_prompt": f"try-{i:02} {HOSTILE}", "seed": i}
        for i in range(prompts)
    ]
    data = {"attack": "synonyms", "config": {"top": 3}, "budget": {"steps": 40, "seconds": 12.5}, "prompts": rows}
    (attack_folder / "attack.json").write_text(json.dumps(data))
    if evaluated is not None:
        of_this_run(folder, evaluated).save(attack_folder / "result.json")
