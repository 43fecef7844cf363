"""Reference tables: commands, benchmarks, concepts, and which method runs on which model."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import typer.main
from result_tables import results_of, single_results, table

from efface.benchmarks.benchmark import SPLITS, Benchmark, benchmark_names
from efface.benchmarks.samples import GROUPS
from efface.cli.main import app
from efface.core.builtin_concepts import get_entry
from efface.core.builtin_concepts import names as concept_names
from efface.core.method_card import MethodCard
from efface.core.registry import ATTACKS, METHODS, Registry

FAMILIES = {
    "sd1": "Stable Diffusion 1.x",
    "sd2": "Stable Diffusion 2.x",
    "sdxl": "SDXL",
    "sd3": "Stable Diffusion 3, 3.5",
    "flux": "FLUX.1",
    "sana": "Sana",
    "janus": "Janus",
    "causal_lm": "language models",
    "image_classifier": "classifiers",
}
EMBEDDED = {"causal_lm": "pocket-lm, tiny", "image_classifier": "pocket-classifier, tiny"}
"""How methods for the kinds of model that generate no images are checked."""


def command_reference() -> str:
    """Every command with its arguments and options."""
    group: Any = typer.main.get_command(app)
    return "\n".join(line for name, command in _commands(group) for line in _options(name, command)).strip()


def _commands(group: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, command in group.commands.items():
        if not hasattr(command, "commands"):
            yield prefix + name, command
            continue
        if getattr(command, "invoke_without_command", False):
            yield prefix + name, command
        yield from _commands(command, f"{prefix}{name} ")


def _options(name: str, command: Any) -> list[str]:
    rows = []
    for parameter in command.params:
        if parameter.name == "help":
            continue
        default = parameter.default
        shown = "" if default is None or callable(default) or parameter.required else f"`{default}`"
        is_option = parameter.param_type_name == "option"
        label = ", ".join(parameter.opts) if is_option else (parameter.name or "").upper()
        rows.append([f"`{label}`", getattr(parameter, "help", "") or "", shown])
    help_text = (command.help or "").strip()
    return [f"## efface {name}", "", help_text, "", *table(["argument or option", "meaning", "default"], rows), ""]


def benchmark_table() -> str:
    """Number of images in every split and group of the shipped benchmarks."""
    rows = []
    for benchmark in map(Benchmark.load, benchmark_names()):
        for split in SPLITS:
            samples = benchmark.samples(split)
            counts = [str(sum(sample.group == group for sample in samples)) for group in GROUPS]
            rows.append([f"{benchmark.name} {benchmark.version}", split, *counts])
    return "\n".join(table(["benchmark and version", "split", *GROUPS], rows))


def concept_table() -> str:
    """The built-in concepts."""
    rows = []
    for entry in map(get_entry, concept_names()):
        concept = entry.concept
        count = str(len(concept.retain_prompts))
        synonyms = ", ".join(concept.synonyms)
        rows.append(
            [entry.name, concept.kind, synonyms, concept.anchor, count, f"{entry.source}, version {entry.version}"]
        )
    return "\n".join(table(["name", "kind", "synonyms", "anchor", "retain prompts", "source"], rows))


def model_matrix() -> str:
    """Every method and attack with its model families, and how each was checked."""
    lines = []
    for registry in (METHODS, ATTACKS):
        has_duration = registry is METHODS
        head = [registry.kind, *FAMILIES.values()] + ["weapon on pocket"] * has_duration
        rows = []
        for card in map(registry.card, registry.names()):
            cells = [_check(registry, card, family) for family in FAMILIES]
            cells += [_duration(card.name)] if has_duration else []
            rows.append([f"[{card.title}]({registry.kind}s/{card.name}.md)", *cells])
        lines += ["", *table(head, rows)]
    return "\n".join(lines[1:])


def _check(registry: Registry, card: MethodCard, family: str) -> str:
    """How a method or attack was checked on a family: on an embedded or on small random models, or a dash."""
    if family not in card.families:
        return "\N{EN DASH}"
    if family in EMBEDDED:
        return EMBEDDED[family]
    embedded = {"flux": "pocket-flow", "janus": "pocket-janus"}.get(family, "")
    if embedded and single_results(card.name, model=embedded):
        return f"{embedded}, tiny"
    measured = registry.kind == "attack" or bool(results_of(card.name))
    return "pocket, tiny" if family == "sd1" and measured else "tiny"


def _duration(method: str) -> str:
    """Measured duration of erasing weapon from pocket."""
    result = single_results(method).get("pocket-weapon")
    if result is None:
        return "not measured"
    seconds = float(result.metadata["cost"]["seconds"])
    return f"{seconds:.1f} s" if seconds < 60 else f"{seconds / 60:.1f} min"
