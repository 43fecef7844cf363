"""Tables of joint and transferred erasures, sources of templates, and concepts with several meanings."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from result_tables import (
    COLUMNS,
    DOCS,
    MISSING_VALUE,
    SENSES,
    cell,
    rates_table,
    results_of,
    sample_sizes,
    single_results,
    table,
)

from efface.benchmarks.benchmark import Benchmark
from efface.benchmarks.result_store import ResultStore
from efface.core.registry import METHODS
from efface.core.result import Result

TEMPLATES = DOCS / "template_sources"
"""Folder of the results of benchmarks/template_sources.py."""


def joint_erasure(method: str) -> list[str]:
    """Scores of each concept erased with others at once, below those of the concept erased alone."""
    joint = {key: result for key, result in results_of(method).items() if key.joint}
    if not joint:
        return []
    single = single_results(method)
    rows: dict[str, Result] = {}
    for name in sorted({key.benchmark for key in joint}):
        rows |= {f"{name}, alone": single[name]} if name in single else {}
        together = [result for key, result in joint.items() if key.benchmark == name]
        for result in sorted(together, key=_num_concepts):
            rows[f"{name}, {_num_concepts(result)} at once"] = result
    caption = (
        f"The concepts of several benchmarks erased at once, seed 0, beside each erased alone. Prompts for the other "
        f"erased concepts are left out of the evaluation of those erased at once. {sample_sizes(rows.values())}. "
        f"Command: `python benchmarks/effect.py {method} --joint --attack none --benchmark ...`."
    )
    return ["", "## Several concepts at once", "", caption, "", *rates_table("benchmark", rows)]


def transfer(method: str) -> list[str]:
    """Scores on another model that shares the text encoder, beside those on the erasure's own model."""
    results = results_of(method)
    transferred = {key: result for key, result in sorted(results.items()) if key.transferred_to}
    if not transferred:
        return []
    rows = []
    for key, result in transferred.items():
        own = results[replace(key, transferred_to="")]
        pairs = [f"{_short(own, *group)} → {cell(result.score(*group))}" for group in COLUMNS]
        rows.append([key.benchmark, *pairs])
    models = sorted({key.transferred_to for key in transferred})
    caption = (
        "The same erasure on another denoiser that shares the text encoder, without training (`efface transfer`): own "
        f"model → {' or '.join(models)}. There {sample_sizes(transferred.values())}. "
        f"Command: `python benchmarks/effect.py {method} --transfer-to {models[0]}{_limit(transferred.values())} "
        "--attack none --benchmark ...`."
    )
    return ["", "## Transfer", "", caption, "", *table(["benchmark", *COLUMNS.values()], rows)]


def senses_table() -> str:
    """What erasing one sense of a word, or a concept without a sharp border, does to the others, by each method."""
    found: dict[str, Result] = {}
    for method in METHODS.names():
        for key, result in results_of(method).items():
            if key.benchmark.startswith(SENSES) and not key.variant:
                found[f"{Benchmark.load(key.benchmark).concept.name}, {method}"] = result
    caption = (
        f"Test split, seed 0; {sample_sizes(found.values())}. The other senses, or what lies just outside of the "
        f"concept, are near. Command: `python benchmarks/effect.py METHOD{_limit(found.values())} --attack none "
        f"--benchmark {SENSES}... --benchmark ...`."
    )
    return "\n".join([caption, "", *rates_table("erased, method", dict(sorted(found.items())))])


def template_sources(method: str) -> list[str]:
    """Scores with training templates from several sources (benchmarks/template_sources.py)."""
    found = ResultStore(TEMPLATES / f"{method}.json").results
    if not found:
        return []
    rows = {key.variant: found[key] for key in sorted(found)}
    benchmark = next(iter(found)).benchmark
    overrides: dict[str, str] = next(iter(found.values())).metadata["overrides"]
    settings = "".join(f" --set {name}={value}" for name, value in overrides.items())
    caption = (
        f"The same number of templates from the shipped library, from the retain prompts, and of random words; "
        f"{benchmark}, seed 0, {sample_sizes(rows.values())}. "
        f"Command: `python benchmarks/template_sources.py {method}{settings}`."
    )
    return ["", "## Sources of templates", "", caption, "", *rates_table("templates", rows)]


def _limit(results: Iterable[Result]) -> str:
    """The option for the number of images a group; the smallest where results differ."""
    limits = [limit for result in results if (limit := result.metadata.get("limit")) is not None]
    return f" --limit {min(limits)}" if limits else ""


def _num_concepts(result: Result) -> int:
    return len(result.metadata["joint_concepts"])


def _short(result: Result, metric: str, group: str) -> str:
    score = result.score(metric, group)
    return MISSING_VALUE if score is None or score.value is None else f"{score.value:.2f}"
