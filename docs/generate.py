"""Write the generated parts of docs/ (``--check``: say what is stale and exit 1)."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import typer.main

from efface.cli.main import app
from efface.models.load import embedded_folder
from efface.worlds import load_split, load_world

DOCS = Path(__file__).parent


def percent(row: dict[str, float]) -> str:
    """A rate with its interval and n."""
    return f"{row['value']:.1%} ({row['low']:.1%} to {row['high']:.1%}, n = {row['n']})"


def pocket_tables() -> str:
    """What pocket reaches, from training_card.json."""
    folder = embedded_folder("pocket")
    card = json.loads((folder / "training_card.json").read_text())
    q = card["quality"]
    goals = {"named object": "90 %", "background": "95 %", "style": "95 %", "rare synonym": "90 %", "hypernym alone gives a member": "90 %"}
    lines = ["| prompts of combinations never rendered in training, 20 DDIM steps | goal | measured |", "|---|---|---|"]
    lines += [f"| {name} | {goal} | {percent(q[name])} |" for name, goal in goals.items()]
    lines += [f"| named object, style {style} | | {percent(row)} |" for style, row in q["named object by style"].items()]
    lines += [
        f"| named object: the judge cannot tell | | {percent(q['named object, cannot tell'])} |",
        f"| seconds a picture, batch 16, {q['settings']['threads']} threads | 0.3 | {q['seconds a picture']:.2f} |",
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
    lines += ["", "| destroyed pictures | the judge cannot tell, or sees nothing | n |", "|---|---|---|"]
    lines += [f"| {k} | {v['cannot tell or nothing']:.1%} | {v['n']} |" for k, v in q["judge"].items() if isinstance(v, dict) and "n" in v]
    lines += ["", "| text encoder: a class's members among the objects nearest to its word | |", "|---|---|"]
    lines += [f"| {k} | {v} |" for k, v in q["nearest to the hypernym"].items()]
    lines += ["", "| trained | steps | pictures seen | parameters |", "|---|---|---|---|"]
    folder_of = {"clip": "text_encoder"}
    for stage, row in card["stages"].items():
        lines.append(f"| {stage} | {row['steps']:,} | {row['pictures seen']:,} | {card['parameters'][folder_of.get(stage, stage)]:,} |")
    return "\n".join(lines)


def world_tables() -> str:
    """Every object with its words, the places, the styles and the split."""
    world, split = load_world(), load_split()
    lines = ["| class | words for the class | adjectives | descriptions |", "|---|---|---|---|"]
    lines += [
        f"| {c.id} | {', '.join(c.hypernyms)} | {', '.join(c.attributes)} | {', '.join(c.implicit)} |" for c in world.categories.values()
    ]
    lines += ["", "| object | class | names | rare | descriptions | split |", "|---|---|---|---|---|---|"]
    for t in world.things.values():
        part = "retain" if t.id in split.retain else "held out" if t.id in split.heldout else "scored domain"
        lines.append(f"| {t.id} | {t.category} | {', '.join(t.names)} | {', '.join(t.rare)} | {', '.join(t.implicit)} | {part} |")
    lines += ["", "| place | phrases | rare |", "|---|---|---|"]
    lines += [f"| {b.id} | {', '.join(b.phrases)} | {', '.join(b.rare)} |" for b in world.backgrounds.values()]
    lines += ["", "| style | before the subject | after it |", "|---|---|---|"]
    lines += [f"| {s.id} | {', '.join(p or '(nothing)' for p in s.prefixes)} | {', '.join(s.suffixes)} |" for s in world.styles.values()]
    lines += ["", "| concept | part | kind | members | near neighbours |", "|---|---|---|---|---|"]
    lines += [
        f"| {c.name} | {c.part} | {c.kind} | {', '.join(c.members) or c.style} | {', '.join(c.near)} |" for c in split.concepts.values()
    ]
    return "\n".join(lines)


def _options(name: str, command: Any) -> list[str]:
    rows = [f"## efface {name}", "", (command.help or "").strip(), "", "| argument or option | meaning | default |", "|---|---|---|"]
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
    return "\n".join(line for name, command in group.commands.items() for line in _options(name, command)).strip()


PARTS: dict[str, Callable[[], str]] = {"pocket.md": pocket_tables, "world.md": world_tables, "cli.md": cli_pages}
MARKS = re.compile(r"(<!-- generated -->\n).*?(\n<!-- end -->)", re.DOTALL)


def main() -> None:
    """Write, or check."""
    stale = []
    for name, make in PARTS.items():
        path = DOCS / name
        old = path.read_text(encoding="utf-8")
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
