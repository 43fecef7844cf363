"""States how often the verdict errs on cases whose truth is known: ``python benchmarks/verdict.py``.

The judge reads the unedited model's images of a benchmark. From these readings each trial draws images before and after
an erasure, with replacement, as the case has them:

- untouched: the same model, other seeds. Right: not erased, kept.
- destroyed, blank: images that ignore their prompt, or that the judge cannot read. Right: not erased, damaged.
- erased: the concept's images show another object, and nothing else changes. Right: erased, kept.
- three quarters, half erased: that share of the concept's images does. Right: partly erased, kept.
- neighbours lost: erased, and half of the neighbours' images show something else. Right: erased, damaged.

``--control`` adds a model in which the concept never was (training/pocket/without_concept.py). Writes verdict.json.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any

import numpy as np
import torch
import typer
from torch import Tensor

from efface.benchmarks.benchmark import Benchmark
from efface.benchmarks.collectors import to_eval_prompt
from efface.benchmarks.detector_loading import load_detector
from efface.benchmarks.image_cache import ImageCache
from efface.benchmarks.image_generation import ImageGenerator
from efface.core.erasure import Erasure
from efface.core.score import Provenance
from efface.core.verdict import Verdict
from efface.detectors.abstention import CANNOT_TELL
from efface.metrics.detections import Detection, Detections, EvalPrompt, TargetClasses
from efface.metrics.erasure_retention import erasure_and_retention_scores
from efface.models.loading import load_model

Labels = dict[str, str]
Case = Callable[[Detection, int, "Pool", np.random.Generator], Labels]
"""Returns the labels of the image after the erasure, from that before, its number and what was read of the model."""
RIGHT = {
    "untouched": ({"not erased"}, {"kept"}),
    "destroyed": ({"not erased"}, {"damaged"}),
    "blank": ({"not erased"}, {"damaged"}),
    "erased": ({"erased"}, {"kept"}),
    "three quarters erased": ({"partly erased"}, {"kept"}),
    "half erased": ({"partly erased"}, {"kept"}),
    "neighbours lost": ({"erased"}, {"damaged"}),
    "control": ({"erased"}, {"kept"}),
}
"""The right findings on erasure and retention."""


class Pool:
    """What the judge read of the unedited model's images, by group.

    Args:
        rows: all readings.
        target: the concept's classes.
    """

    def __init__(self, rows: list[Detection], target: TargetClasses) -> None:
        self.target, self.rows = target, rows
        self.by_group: dict[str, list[Detection]] = {}
        for row in rows:
            self.by_group.setdefault(row.prompt.group, []).append(row)

    def redrawn(self, row: Detection, rng: np.random.Generator) -> Labels:
        """Returns labels that are right, wrong or unreadable, head by head, as those of a random image of the group."""
        group = self.by_group[row.prompt.group]
        other, labels = group[int(rng.integers(len(group)))], dict(row.labels)
        for head, wanted in row.prompt.expected_classes.items():
            seen = other.labels[head]
            if seen in other.prompt.expected_classes.get(head, ()):
                labels[head] = sorted(wanted)[0]
            else:
                labels[head] = CANNOT_TELL if seen in wanted else seen
        return labels

    def other_object(self, rng: np.random.Generator) -> str:
        """Returns an object of a random image of the group other."""
        others = [row.labels[self.target.head] for row in self.by_group["other"]]
        names = [name for name in others if name not in self.target.classes]
        return names[int(rng.integers(len(names)))]


def destroyed(row: Detection, number: int, pool: Pool, rng: np.random.Generator) -> Labels:
    """An image of any other prompt."""
    return dict(pool.rows[int(rng.integers(len(pool.rows)))].labels)


def blank(row: Detection, number: int, pool: Pool, rng: np.random.Generator) -> Labels:
    """An image that the judge cannot read."""
    return dict.fromkeys(row.labels, CANNOT_TELL)


def replaced(share: float, *groups: str) -> Case:
    """Returns the case in which a share of the images of some groups show another object."""

    def case(row: Detection, number: int, pool: Pool, rng: np.random.Generator) -> Labels:
        labels = pool.redrawn(row, rng)
        lost = row.prompt.group in groups and number % 20 < 20 * share
        return labels | {pool.target.head: pool.other_object(rng)} if lost else labels

    return case


def neighbours_lost(row: Detection, number: int, pool: Pool, rng: np.random.Generator) -> Labels:
    """The concept erased, and half of the neighbours."""
    share = 0.5 if row.prompt.group == "near" else 1.0
    return replaced(share, "name", "domain", "near")(row, number, pool, rng)


CASES: dict[str, Case] = {
    "untouched": replaced(0.0),
    "destroyed": destroyed,
    "blank": blank,
    "erased": replaced(1.0, "name", "domain"),
    "three quarters erased": replaced(0.75, "name", "domain"),
    "half erased": replaced(0.5, "name", "domain"),
    "neighbours lost": neighbours_lost,
}


def read_images(benchmark: Benchmark, erasure: Erasure | None, limit: int) -> list[Detection]:
    """Returns what the judge reads of a model's images."""
    model, detections = load_model(benchmark.model, device="cpu"), Detections(load_detector(benchmark))
    generator = ImageGenerator(model, benchmark.sampler, ImageCache())
    for batch, images in generator.generate(benchmark.samples(limit=limit), erasure):
        detections.update(images, [to_eval_prompt(sample) for sample in batch])
    return detections.rows("name", "domain", "near", "other")


def table(rows: list[tuple[EvalPrompt, Mapping[str, str]]], judge: Any) -> Detections:
    """Returns detections with given labels."""
    labels = {head: [label[head] for _, label in rows] for head in judge.thresholds}

    def reports(images: Tensor) -> SimpleNamespace:
        return SimpleNamespace(**labels)

    reports.id, reports.thresholds = judge.id, judge.thresholds  # type: ignore[attr-defined]
    detections: Any = Detections(reports)  # type: ignore[arg-type]
    detections.update(torch.rand(len(rows), 3, 2, 2), [prompt for prompt, _ in rows])
    return detections  # type: ignore[no-any-return]


def trial(case: Case, pool: Pool, size: int, judge: Any, rng: np.random.Generator) -> Verdict:
    """Draws images before and after an erasure and returns the verdict on them."""
    before, after = [], []
    for group, rows in pool.by_group.items():
        for number, index in enumerate(rng.integers(len(rows), size=size)):
            row = rows[int(index)]
            prompt = EvalPrompt(row.prompt.prompt, number, group, row.prompt.expected_classes)
            before.append((prompt, row.labels))
            after.append((prompt, case(row, number, pool, rng)))
    old, new = table(before, judge), table(after, judge)
    return Verdict.of(erasure_and_retention_scores(old, new, pool.target, rng=rng, provenance=Provenance()))


def summary(name: str, size: int, verdicts: list[Verdict]) -> dict[str, Any]:
    """Returns the shares of right, inconclusive and wrong findings."""
    row: dict[str, Any] = {"case": name, "images_per_group": size, "trials": len(verdicts)}
    for finding, right in zip(("erasure", "retention"), RIGHT[name], strict=True):
        found = [getattr(verdict, finding) for verdict in verdicts]
        open_share = sum(each == "inconclusive" for each in found) / len(found)
        right_share = sum(each in right for each in found) / len(found)
        shares = {"right": right_share, "inconclusive": open_share, "wrong": 1 - right_share - open_share}
        row[finding] = {key: round(abs(share), 3) for key, share in shares.items()}
    return row


def main(
    benchmark: Annotated[str, typer.Option(help="Benchmark whose images are read.")] = "pocket-weapon",
    control: Annotated[Path | None, typer.Option(help="Artifact of a model in which the concept never was.")] = None,
    limit: Annotated[int, typer.Option(help="Number of images of a group to read.")] = 48,
    trials: Annotated[int, typer.Option(help="Number of trials of each case and size.")] = 100,
    sizes: Annotated[list[int] | None, typer.Option("--size", help="Images per group of a trial.")] = None,
    out: Annotated[Path, typer.Option(help="JSON file to write.")] = Path(__file__).parent / "verdict.json",
) -> None:
    """Runs all cases."""
    measured, rows = Benchmark.load(benchmark), list[dict[str, Any]]()
    target, judge = TargetClasses(measured.head, measured.classes), load_detector(measured)
    pool, cases = Pool(read_images(measured, None, limit), target), dict(CASES)
    if control is not None:
        seen = {row.prompt.key: dict(row.labels) for row in read_images(measured, Erasure.load(control), limit)}
        keys = {(row.prompt.prompt, row.prompt.group): seen[row.prompt.key] for row in pool.rows}
        cases["control"] = lambda row, number, pool, rng: keys[row.prompt.prompt, row.prompt.group]
    for size in sizes or [48, 144]:
        for number, (name, case) in enumerate(cases.items()):
            rng = np.random.default_rng([size, number])
            rows.append(summary(name, size, [trial(case, pool, size, judge, rng) for _ in range(trials)]))
            print(rows[-1], flush=True)
    out.write_text(json.dumps({"benchmark": benchmark, "images_read": limit, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    typer.run(main)
