"""An ablation: one erasure per variant of a method's configuration, evaluated on one benchmark.

The file ``data/ablation_<method>.yaml`` lists the variants: for each name, the settings that it changes. Every
variant and seed has a folder with the erasure and its evidence. An existing erasure or result is not computed again, so
an interrupted study continues.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from efface import api
from efface.api.validation import load_erasure
from efface.benchmarks.benchmark import Benchmark
from efface.core.attack_label import attack_of
from efface.core.errors import EffaceError, UnknownNameError
from efface.core.evaluation_evidence import read_attack_results, with_attacks
from efface.core.manifest import EVIDENCE, MANIFEST
from efface.core.registry import ATTACKS, METHODS
from efface.core.result import Result, Score
from efface.models.loading import load_model
from efface.ops.training.progress import Progress

from .ablation_table import Row, write

if TYPE_CHECKING:
    from efface.models.editable import EditableModel

SCORES = (("rer", "name"), ("rer", "domain"), ("retention", "near"), ("retention", "other"), ("retention", "context"))


def variants(method: str) -> dict[str, dict[str, Any]]:
    """Returns the variants of a method's ablation with the settings that they change.

    Raises:
        EffaceError: no file ``studies/data/ablation_<method>.yaml`` declares variants.
    """
    import yaml

    METHODS.card(method)
    path = files("efface.studies").joinpath("data", f"ablation_{method}.yaml")
    if not path.is_file():
        raise EffaceError(f"{method} has no ablation: declare its variants in studies/data/ablation_{method}.yaml")
    declared: dict[str, dict[str, Any]] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return declared


def ablate(
    method: str, *, out: Path, benchmark: str = "pocket-instrument", split: str = "dev", seeds: int = 1,
    limit: int | None = None, only: Sequence[str] = (), settings: Mapping[str, Any] | None = None,
    attacks: Sequence[str] = (), progress: Progress | None = None, on_row: Callable[[Row], None] | None = None,
) -> list[Row]:  # fmt: skip
    """Erase and evaluate with every variant; update ``ablation.json``, ``.md`` and ``.svg`` in ``out`` after each.

    Args:
        method: name of the method.
        out: folder of the study.
        benchmark: benchmark by name or file; choose a dev concept, so that no reported number decides a setting.
        split: split of the benchmark.
        seeds: number of erasures per variant, with the seeds 0, 1, ...
        limit: maximum number of images per group.
        only: names of the variants to run; all by default.
        settings: settings of all variants, which a variant's own override.
        attacks: names of attacks on every variant, each with at most `limit` prompts.
        progress: progress display.
        on_row: called with each finished row.

    Raises:
        UnknownNameError: no such method, variant or attack.
        EffaceError: a method without an ablation.
    """
    METHODS.card(method)
    for attack in attacks:
        ATTACKS.card(attack)
    loaded, known = Benchmark.load(benchmark), variants(method)
    if unknown := [name for name in only if name not in known]:
        raise UnknownNameError("variant", unknown[0], known)
    study = _Study(method, out, loaded, benchmark, split, limit, tuple(attacks), load_model(loaded.model), progress)
    metadata = {"method": method, "benchmark": loaded.name, "split": split, "seeds": seeds, "limit": limit}
    metadata |= {"settings": dict(settings or {}), "attacks": list(attacks)}
    rows = []
    for name in only or known:
        rows.append(study.run_variant(name, known[name], settings or {}, seeds))
        write(out, metadata, rows)
        if on_row is not None:
            on_row(rows[-1])
    return rows


@dataclass(frozen=True)
class _Study:
    """The settings that all variants share."""

    method: str
    out: Path
    benchmark: Benchmark
    benchmark_source: str
    split: str
    limit: int | None
    attacks: tuple[str, ...]
    model: EditableModel
    progress: Progress | None

    def run_variant(self, name: str, overrides: Mapping[str, Any], settings: Mapping[str, Any], seeds: int) -> Row:
        """Erases and evaluates with one variant and every seed."""
        config = {**settings, **overrides}
        runs = [self._run(self._folder(name, seed), config, seed) for seed in range(seeds)]
        results = [result for result, _ in runs]
        scores = {f"{metric}/{group}": _mean([r.score(metric, group) for r in results]) for metric, group in SCORES}
        for attack in self.attacks:
            scores[f"asr_post/{attack}"] = _mean([r.attack_scores().get(attack) for r in results])
        return Row(name, overrides, sum(seconds for _, seconds in runs) / len(runs), scores)

    def _folder(self, variant: str, seed: int) -> Path:
        return self.out / re.sub(r"[^a-z0-9]+", "-", f"{variant}-{seed}".lower()).strip("-")

    def _run(self, folder: Path, config: Mapping[str, Any], seed: int) -> tuple[Result, float]:
        """Returns the result of one erasure and the seconds that the erasure took; computes only what is missing."""
        folder.parent.mkdir(parents=True, exist_ok=True)
        if not (folder / MANIFEST).is_file():
            api.erase(
                self.benchmark.concept, out=folder, model=self.model, method=self.method, config=config, seed=seed,
                resume=True, quick_evaluation=False, progress=self.progress,
            )  # fmt: skip
        cost = load_erasure(folder).cost
        name = f"{self.benchmark.name}-{self.split}-{self.benchmark.first_seed(self.split)}"
        if self.limit is not None:
            name += f"-{self.limit}"
        path = folder / EVIDENCE / name / "result.json"
        known = {attack_of(label) for label in read_attack_results(folder)}
        options: dict[str, Any] = {
            "split": self.split,
            "limit": self.limit,
            "model": self.model,
            "progress": self.progress,
        }
        for attack in (attack for attack in self.attacks if attack not in known):
            api.attack(folder, attack, self.benchmark_source, seed=seed, **options)
        if path.is_file():
            result = with_attacks(Result.load(path), read_attack_results(folder))
        else:
            result = api.evaluate(folder, self.benchmark_source, **options)
        return result, cost.seconds if cost else 0.0


def _mean(scores: Sequence[Score | None]) -> tuple[float, float, float] | None:
    """Averages a score over seeds; the interval spans the intervals of all seeds."""
    intervals = []
    for score in scores:
        if score and score.value is not None and score.low is not None and score.high is not None:
            intervals.append((score.value, score.low, score.high))
    if not intervals:
        return None
    values, lows, highs = zip(*intervals, strict=True)
    return sum(values) / len(values), min(lows), max(highs)
