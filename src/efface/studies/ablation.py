"""An ablation: a method as it is, and with one decision taken otherwise, on the dev concept; a table and a plot with intervals.

What is varied stands beside the method, as ``ABLATION``: a name for each variant and the settings that make it. Every variant lies in its
own folder, with its evidence; one that is there is not made again, so that a study goes on where it was interrupted.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from efface import api
from efface.api.validation import load_erasure
from efface.benchmarks.benchmark import Benchmark
from efface.core.errors import EffaceError, UnknownNameError
from efface.core.io import atomic_write_json, atomic_write_text
from efface.core.manifest import EVIDENCE
from efface.core.registry import ATTACKS, METHODS
from efface.core.result import Result
from efface.models.loading import load_model
from efface.ops.training.progress import Progress

from .plots import Series, interval_plot

SCORES = (("rer", "name"), ("rer", "domain"), ("retention", "near"), ("retention", "other"), ("retention", "context"))
LABELS = {"rer": "RER", "retention": "retention", "asr_post": "ASR"}


@dataclass(frozen=True)
class Row:
    """One variant: its settings, seconds of one run, and by score the mean over seeds with the widest of their intervals."""

    variant: str
    settings: Mapping[str, Any]
    seconds: float
    scores: Mapping[str, tuple[float, float, float] | None]


def variants(method: str) -> dict[str, dict[str, Any]]:
    """What the method's ablation varies; raises `EffaceError` where it has none."""
    module = sys.modules[METHODS.get(method).__module__]  # type: ignore[attr-defined]
    found: dict[str, dict[str, Any]] = getattr(module, "ABLATION", {})
    if not found:
        raise EffaceError(f"{method} declares no ABLATION: say in its file what to vary")
    return found


def ablate(
    method: str, *, out: Path, benchmark: str = "pocket-instrument", part: str = "dev", seeds: int = 1, limit: int | None = None,
    only: Sequence[str] = (), settings: Mapping[str, Any] | None = None, attacks: Sequence[str] = (), progress: Progress | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> list[Row]:  # fmt: skip
    """Makes and evaluates every variant; writes ``ablation.json``, ``ablation.md`` and ``ablation.svg`` into the folder as it goes.

    Args:
        method: whose ablation.
        out: the study's folder.
        benchmark: whose concept; a dev concept, so that nothing is chosen on what is reported elsewhere.
        part: of the benchmark.
        seeds: runs of each variant.
        limit: at most so many images a group.
        only: variants, by name; all by default.
        settings: what is set otherwise in all of them.
        attacks: what every variant is attacked with, by name, on as many prompts as ``limit``.
        progress: where to show progress.
        say: told every result in one line.

    Raises:
        UnknownName: no such variant or attack. EffaceError: a method without an ablation.
    """
    METHODS.card(method)
    for attack in attacks:
        ATTACKS.card(attack)
    found, known = Benchmark.load(benchmark), variants(method)
    if wrong := [name for name in only if name not in known]:
        raise UnknownNameError("variant", wrong[0], known)
    model, rows = load_model(found.model), []
    about = {"method": method, "benchmark": found.name, "part": part, "seeds": seeds, "limit": limit}
    about |= {"settings": dict(settings or {}), "attacks": list(attacks)}
    for name in only or known:
        config = {**(settings or {}), **known[name]}
        runs = [
            _one(method, _place(out, name, s), found, config, s, part, limit, attacks, model, progress)
            for s in range(seeds)
        ]
        rows.append(_row(name, known[name], runs, attacks))
        say(_line(rows[-1]))
        write(out, about, rows)
    return rows


def _place(out: Path, name: str, seed: int) -> Path:
    """A variant's folder."""
    return out / re.sub(r"[^a-z0-9]+", "-", f"{name}-{seed}".lower()).strip("-")


def _one(
    method: str, folder: Path, benchmark: Benchmark, config: Mapping[str, Any], seed: int, part: str, limit: int | None,
    attacks: Sequence[str], model: Any, progress: Progress | None,
) -> tuple[Result, float]:  # fmt: skip
    """One run's result and the seconds that the erasure took."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    if not (folder / "erasure.json").is_file():
        api.erase(
            benchmark.concept,
            out=folder,
            model=model,
            method=method,
            config=config,
            seed=seed,
            resume=True,
            progress=progress,
        )
    erasure = load_erasure(folder)
    name = f"{benchmark.name}-{part}-{benchmark.first_seed(part)}" + (f"-{limit}" if limit is not None else "")
    path = folder / EVIDENCE / name / "result.json"
    result = Result.load(path) if path.is_file() else None
    missing = [attack for attack in attacks if result is None or result.score("asr_post", attack) is None]
    for attack in missing:
        api.attack(folder, attack, benchmark.name, part=part, limit=limit, seed=seed, model=model, progress=progress)
    if result is None or missing:
        result = api.evaluate(folder, benchmark.name, part=part, limit=limit, model=model, progress=progress)
    return result, erasure.cost.seconds if erasure.cost else 0.0


def _row(name: str, settings: Mapping[str, Any], runs: Sequence[tuple[Result, float]], attacks: Sequence[str]) -> Row:
    scores: dict[str, tuple[float, float, float] | None] = {}
    for metric, group in (*SCORES, *(("asr_post", attack) for attack in attacks)):
        found = [result.score(metric, group) for result, _ in runs]
        whole = [
            (s.value, s.low, s.high)
            for s in found
            if s and s.value is not None and s.low is not None and s.high is not None
        ]
        mean = sum(value for value, _, _ in whole) / len(whole) if whole else 0.0
        bounds = (min(low for _, low, _ in whole), max(high for _, _, high in whole)) if whole else (0.0, 0.0)
        scores[f"{metric}/{group}"] = (mean, *bounds) if whole else None
    return Row(name, settings, sum(seconds for _, seconds in runs) / len(runs), scores)


def _line(row: Row) -> str:
    cells = [f"{name} {score[0]:.2f}" if score else f"{name} N/A" for name, score in row.scores.items()]
    return f"{row.variant:24} {'  '.join(cells)}  {row.seconds:.0f} s"


def write(out: Path, about: Mapping[str, Any], rows: Sequence[Row]) -> None:
    """The study as JSON, as a Markdown table and as an SVG plot."""
    atomic_write_json(out / "ablation.json", {**about, "rows": [asdict(row) for row in rows]})
    atomic_write_text(out / "ablation.md", table(rows))
    atomic_write_text(
        out / "ablation.svg", plot(rows, f"{about['method']} on {about['benchmark']}, {about['part']} part")
    )


def table(rows: Sequence[Row]) -> str:
    """Markdown: one line a variant, intervals in brackets."""
    names = [_label(name) for name in rows[0].scores]
    lines = [f"| variant | settings | {' | '.join(names)} | s |", "|---|---|" + "---|" * len(names) + "---|"]
    for row in rows:
        cells = [
            "N/A" if score is None else f"{score[0]:.2f} [{score[1]:.2f}, {score[2]:.2f}]"
            for score in row.scores.values()
        ]
        settings = ", ".join(f"`{key}={value}`" for key, value in row.settings.items())
        lines.append(f"| {row.variant} | {settings} | {' | '.join(cells)} | {row.seconds:.0f} |")
    return "\n".join(lines) + "\n"


def plot(rows: Sequence[Row], title: str) -> str:
    """SVG: a panel a score, a line a variant."""
    series = [Series(_label(name), [row.scores[name] for row in rows]) for name in rows[0].scores]
    return interval_plot(title, [row.variant for row in rows], series)


def _label(name: str) -> str:
    """Such as ``RER name`` for ``rer/name``."""
    metric, group = name.split("/")
    return f"{LABELS[metric]} {group}"


def read(path: Path) -> tuple[dict[str, Any], list[Row]]:
    """A study as `write` left it."""
    data = json.loads(path.read_text(encoding="utf-8"))
    rows = [
        Row(**{**row, "scores": {k: tuple(v) if v else None for k, v in row["scores"].items()}})
        for row in data.pop("rows")
    ]
    return data, rows
