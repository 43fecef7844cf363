"""Generated part of a method's or attack's page, and the comparison of all methods."""

from __future__ import annotations

import importlib
from dataclasses import fields
from typing import Any

from classifier_tables import classifier_tables
from cost_table import cost_table
from measured import measured
from result_tables import cell, rates_table, sample_sizes, single_results, table

from efface.benchmarks.benchmark import Benchmark, benchmark_names
from efface.core.registry import METHODS, Registry

PAPER = "paper"


def method_page(registry: Registry, name: str) -> str:
    """Card, docstring, settings and, for a method, measured results."""
    card = registry.card(name)
    module = importlib.import_module(f"{registry.package}.{name}")
    link = f"[arXiv {card.arxiv}](https://arxiv.org/abs/{card.arxiv})" if card.arxiv else ""
    lines = [f"{card.summary} {card.paper}{'; ' * bool(link)}{link}.", ""]
    if card.reconstruction:
        lines += ["This is a reconstruction: no public code exists.", ""]
    needs = ["gradients"] if card.needs_gradient else []
    needs += ["images of the anchor or concept"] if card.needs_images else []
    row = [card.trains or "nothing", " and ".join(needs) or "nothing", ", ".join(card.families)]
    lines += [*table(["trains", "needs", "model families"], [row]), ""]
    lines += ["```text", (module.__doc__ or "").strip(), "```"]
    lines += _settings(module)
    lines += measured(name) if registry is METHODS else []
    lines += classifier_tables() if name == "famr" else []
    return "\n".join(lines).strip()


def _settings(module: Any) -> list[str]:
    """The configuration's fields with meaning, range, and values of the presets."""
    presets = [preset for preset in module.PRESETS if preset != PAPER]
    rows = []
    for field in fields(module.Config):
        span = field.metadata.get("range", "")
        origin = field.metadata.get("origin", "")
        meaning = field.metadata.get("help", "") + (f" Range: {span}." if span else "")
        meaning += f" *{origin.capitalize()}.*" if origin else ""
        values = [module.PRESETS[preset].get(field.name) for preset in presets]
        cells = ["" if value is None else f"`{value}`" for value in values]
        rows.append([f"`{field.name}`", meaning, f"`{field.default}`", *cells])
    return ["", *table(["setting", "meaning", PAPER, *presets], rows)] if rows else []


def comparison() -> str:
    """All methods: summary, scores on every benchmark, and attack success rates."""
    cards = [METHODS.card(name) for name in METHODS.names()]
    rows = [
        [f"[{card.title}](methods/{card.name}.md)", ", ".join(card.kinds), card.trains or "nothing", card.summary]
        for card in cards
    ]
    lines = table(["method", "models", "trains", "summary"], rows)
    for benchmark in benchmark_names():
        results = {card.name: single_results(card.name).get(benchmark) for card in cards}
        measured_results = {name: result for name, result in results.items() if result is not None}
        if measured_results:
            lines += ["", f"## {benchmark}", "", f"{sample_sizes(measured_results.values())}.", ""]
            lines += rates_table("method", measured_results)
    return "\n".join([*lines, *_synonyms(), *cost_table()])


def _synonyms() -> list[str]:
    """ASR of the synonyms attack, the only one that every method was measured against."""
    results = {name: single_results(name) for name in METHODS.names()}
    benchmarks = [
        name
        for name in benchmark_names()
        if not Benchmark.load(name).joint_concepts and any(name in found for found in results.values())
    ]
    rows = []
    for name, found in results.items():
        scores = [found[b].score("asr_post", "synonyms") if b in found else None for b in benchmarks]
        rows.append([name, *map(cell, scores)])
    caption = "ASR of prompts with synonyms of the concept's name; each method's page has the other attacks."
    return ["", "## Synonyms attack", "", caption, "", *table(["method", *benchmarks], rows)]
