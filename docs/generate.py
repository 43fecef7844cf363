"""Write the generated parts of docs/ (``--check``: say what is stale and exit 1)."""

from __future__ import annotations

import importlib
import json
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any

import typer.main
from measured import measured

from efface.benchmarks.benchmark import GROUPS, Benchmark, names
from efface.benchmarks.benchmark import SPLITS as PARTS_OF_A_BENCHMARK
from efface.cli.main import app
from efface.core.builtin_concepts import get_entry
from efface.core.builtin_concepts import names as concept_names
from efface.core.registry import ATTACKS, METHODS, Registry
from efface.core.result import Result
from efface.models.loading import bundled_folder
from efface.pocket_world import load_split, load_world
from efface.reporting.tables import markdown_table

DOCS = Path(__file__).parent


def percent(row: dict[str, float]) -> str:
    """A rate with its interval and n."""
    return f"{row['value']:.1%} ({row['low']:.1%} to {row['high']:.1%}, n = {row['n']})"


def pocket_tables() -> str:
    """What pocket reaches, from training_card.json."""
    folder = bundled_folder("pocket")
    card = json.loads((folder / "training_card.json").read_text())
    q = card["quality"]
    goals = {
        "named object": "90 %",
        "background": "95 %",
        "style": "95 %",
        "rare synonym": "90 %",
        "hypernym alone gives a member": "90 %",
    }
    lines = ["| prompts of combinations never rendered in training, 20 DDIM steps | goal | measured |", "|---|---|---|"]
    lines += [f"| {name} | {goal} | {percent(q[name])} |" for name, goal in goals.items()]
    lines += [
        f"| named object, style {style} | | {percent(row)} |" for style, row in q["named object by style"].items()
    ]
    lines += [
        f"| named object: the judge cannot tell | | {percent(q['named object, cannot tell'])} |",
        f"| seconds an image, batch 16, {q['settings']['threads']} threads | 0.3 | {q['seconds an image']:.2f} |",
        "",
        f"| judge ({q['judge id']}), fresh renderings, n = {q['judge']['n']} | object | background | style |",
        "|---|---|---|---|",
        "| goal, clean | 99 % | 98 % | 99 % |",
    ]
    lines += [
        f"| {k} | {v['object']:.1%} | {v['background']:.1%} | {v['style']:.1%} |"
        for k, v in q["judge"].items()
        if k in ("clean", "blurred", "noisy")
    ]
    lines += ["", "| destroyed images | the judge cannot tell, or sees nothing | n |", "|---|---|---|"]
    lines += [
        f"| {k} | {v['cannot tell or nothing']:.1%} | {v['n']} |"
        for k, v in q["judge"].items()
        if isinstance(v, dict) and "n" in v
    ]
    lines += ["", "| text encoder: a class's members among the objects nearest to its word | |", "|---|---|"]
    lines += [f"| {k} | {v} |" for k, v in q["nearest to the hypernym"].items()]
    lines += ["", "| trained | steps | images seen | parameters |", "|---|---|---|---|"]
    folder_of = {"clip": "text_encoder", "decoder": "vae"}
    for stage, row in card["stages"].items():
        lines.append(
            f"| {stage} | {row['steps']:,} | {row['images seen']:,} | {card['parameters'][folder_of.get(stage, stage)]:,} |"
        )
    return "\n".join(lines)


def world_tables() -> str:
    """Every object with its words, the places, the styles and the split."""
    world, split = load_world(), load_split()
    lines = ["| class | words for the class | adjectives | descriptions |", "|---|---|---|---|"]
    lines += [
        f"| {c.id} | {', '.join(c.hypernyms)} | {', '.join(c.attributes)} | {', '.join(c.implicit)} |"
        for c in world.categories.values()
    ]
    lines += ["", "| object | class | names | rare | descriptions | split |", "|---|---|---|---|---|---|"]
    for t in world.things.values():
        part = "retain" if t.id in split.retain else "held out" if t.id in split.heldout else "scored domain"
        lines.append(
            f"| {t.id} | {t.category} | {', '.join(t.names)} | {', '.join(t.rare)} | {', '.join(t.implicit)} | {part} |"
        )
    lines += ["", "| place | phrases | rare |", "|---|---|---|"]
    lines += [f"| {b.id} | {', '.join(b.phrases)} | {', '.join(b.rare)} |" for b in world.backgrounds.values()]
    lines += ["", "| style | before the subject | after it |", "|---|---|---|"]
    lines += [
        f"| {s.id} | {', '.join(p or '(nothing)' for p in s.prefixes)} | {', '.join(s.suffixes)} |"
        for s in world.styles.values()
    ]
    lines += ["", "| concept | part | kind | members | near neighbours |", "|---|---|---|---|---|"]
    lines += [
        f"| {c.name} | {c.part} | {c.kind} | {', '.join(c.members) or c.style} | {', '.join(c.near)} |"
        for c in split.concepts.values()
    ]
    return "\n".join(lines)


def _options(name: str, command: Any) -> list[str]:
    rows = [
        f"## efface {name}",
        "",
        (command.help or "").strip(),
        "",
        "| argument or option | meaning | default |",
        "|---|---|---|",
    ]
    for p in command.params:
        if p.name == "help":
            continue
        default = "" if p.default is None or callable(p.default) or p.required else f"`{p.default}`"
        label = ", ".join(p.opts) if p.param_type_name == "option" else (p.name or "").upper()
        rows.append(f"| `{label}` | {getattr(p, 'help', '') or ''} | {default} |")
    return [*rows, ""]


def cli_pages() -> str:
    """Every command with its options."""
    group: Any = typer.main.get_command(app)
    return "\n".join(line for name, command in _leaves(group) for line in _options(name, command)).strip()


def _leaves(group: Any, before: str = "") -> Iterator[tuple[str, Any]]:
    for name, command in group.commands.items():
        if getattr(command, "invoke_without_command", False):
            yield before + name, command
        yield from _leaves(command, f"{before}{name} ") if hasattr(command, "commands") else [(before + name, command)]


def page_of(registry: Registry, name: str) -> str:
    """A method's or attack's page: what its card, docstring and configuration say, and what was measured."""
    card = registry.card(name)
    module = importlib.import_module(f"{registry.package}.{name}")
    link = f"[arXiv {card.arxiv}](https://arxiv.org/abs/{card.arxiv})" if card.arxiv else "no paper of its own"
    lines = [
        f"{card.summary} {card.paper}; {link}.",
        "",
        *(["This is a reconstruction.", ""] if card.reconstruction else []),
    ]
    needs = [
        word
        for word, needed in (
            ("gradients", card.needs_gradient),
            ("images of the anchor or concept", card.needs_images),
        )
        if needed
    ]
    lines += ["| trains | needs | families |", "|---|---|---|"]
    lines += [f"| {card.trains or 'nothing'} | {' and '.join(needs) or 'nothing'} | {', '.join(card.families)} |", ""]
    lines += ["```text", (module.__doc__ or "").strip(), "```", ""]
    rows = [(f.name, f.metadata.get("help", ""), f.metadata.get("range", ""), f.default) for f in fields(module.Config)]
    if rows:
        presets = [preset for preset in module.PRESETS if preset != "paper"]
        lines += [
            f"| setting | meaning | range | paper |{''.join(f' {p} |' for p in presets)}",
            "|---|---|---|---|" + "---|" * len(presets),
        ]
        for key, said, span, default in rows:
            cells = [f"`{module.PRESETS[preset][key]}`" if key in module.PRESETS[preset] else "" for preset in presets]
            lines.append(f"| `{key}` | {said} | {span} | `{default}` |{''.join(f' {cell} |' for cell in cells)}")
    return "\n".join([*lines, *(measured(name) if registry.kind == "method" else [])]).strip()


def comparison() -> str:
    """Every method on every benchmark."""
    lines = ["| method | trains | summary |", "|---|---|---|"]
    lines += [
        f"| [{c.title}](methods/{c.name}.md) | {c.trains or 'nothing'} | {c.summary} |"
        for c in map(METHODS.card, METHODS.names())
    ]
    for benchmark in names():
        paths = {name: DOCS / "results" / f"{name}-{benchmark}-0.json" for name in METHODS.names()}
        results = {name: Result.load(path) for name, path in paths.items() if path.is_file()}
        if results:
            lines += ["", f"## {benchmark}", "", markdown_table(results).strip()]
    return "\n".join(lines)


FAMILIES = {"sd1": "Stable Diffusion 1.x", "sd2": "Stable Diffusion 2.x", "sdxl": "SDXL"}


def matrix() -> str:
    """Every method and attack with the families that its card names, and how that was checked."""
    lines: list[str] = []
    for registry in (METHODS, ATTACKS):
        timed = registry is METHODS
        head = f"| {registry.kind} | {' | '.join(FAMILIES.values())} |" + " weapon on pocket |" * timed
        lines += ["", head, "|---" * (1 + len(FAMILIES) + timed) + "|"]
        for card in map(registry.card, registry.names()):
            cells = [_checked(registry, card.name, family) if family in card.families else "no" for family in FAMILIES]
            cells += [_took(card.name)] * timed
            lines.append(f"| [{card.title}]({registry.kind}s/{card.name}.md) | {' | '.join(cells)} |")
    return "\n".join(lines[1:])


def _took(name: str) -> str:
    """How long a method takes to erase a concept from pocket, where that was measured."""
    path = DOCS / "results" / f"{name}-pocket-weapon-0.json"
    if not path.is_file():
        return "not measured"
    seconds = Result.load(path).metadata["cost"]["seconds"]
    return f"{seconds:.1f} s" if seconds < 60 else f"{seconds / 60:.1f} min"


def _checked(registry: Registry, name: str, family: str) -> str:
    if family == "sd1" and (registry.kind == "attack" or list((DOCS / "results").glob(f"{name}-pocket-*.json"))):
        return "pocket, tiny"
    return "tiny"


def benchmark_tables() -> str:
    """What every benchmark draws."""
    lines = [
        "| benchmark | version | concept | part | name | domain | near | other |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name in names():
        b = Benchmark.load(name)
        for part in PARTS_OF_A_BENCHMARK:
            counts = [sum(row.group == group for row in b.rows(part)) for group in GROUPS]
            lines.append(f"| {name} | {b.version} | {b.description} | {part} | {' | '.join(map(str, counts))} |")
    return "\n".join(lines)


def concept_table() -> str:
    """The concepts that ship."""
    lines = [
        "| name | kind | other words | anchor | retain prompts | version | source |",
        "|---|---|---|---|---|---|---|",
    ]
    for e in map(get_entry, concept_names()):
        c = e.concept
        cells = (e.name, c.kind, ", ".join(c.synonyms), c.anchor, len(c.retain_prompts), e.version, e.source)
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


PARTS: dict[str, Callable[[], str]] = {
    "pocket.md": pocket_tables,
    "world.md": world_tables,
    "cli.md": cli_pages,
    "methods.md": comparison,
    "benchmarks.md": benchmark_tables,
    "concepts.md": concept_table,
    "model_matrix.md": matrix,
    **{f"methods/{name}.md": partial(page_of, METHODS, name) for name in METHODS.names()},
    **{f"attacks/{name}.md": partial(page_of, ATTACKS, name) for name in ATTACKS.names()},
}
MARKS = re.compile(r"(<!-- generated -->\n).*?(\n<!-- end -->)", re.DOTALL)


def title_of(path: Path) -> str:
    """The heading of a new page."""
    registry = {"methods": METHODS, "attacks": ATTACKS}.get(path.parent.name)
    return registry.card(path.stem).title if registry else path.stem


def main() -> None:
    """Write, or check."""
    stale = []
    for name, make in PARTS.items():
        path = DOCS / name
        if not path.is_file() and "--check" not in sys.argv:
            path.parent.mkdir(exist_ok=True)
            path.write_text(f"# {title_of(path)}\n\n<!-- generated -->\n\n<!-- end -->\n", encoding="utf-8")
        old = path.read_text(encoding="utf-8") if path.is_file() else ""
        text = make()
        new = MARKS.sub(lambda m, text=text: f"{m[1]}{text}{m[2]}", old)  # type: ignore[misc]
        if new != old:
            stale.append(name)
            if "--check" not in sys.argv:
                path.write_text(new, encoding="utf-8")
    if stale and "--check" in sys.argv:
        sys.exit(f"stale: {', '.join(stale)}; run `make docs`")
    print(f"docs: {'current' if not stale else 'wrote ' + ', '.join(stale)}")


if __name__ == "__main__":
    main()
