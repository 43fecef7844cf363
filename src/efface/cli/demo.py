"""``efface demo``: what pocket knows, drawn and judged."""

from __future__ import annotations

from pathlib import Path

from efface.detectors.judge import load_judge
from efface.report.grid import labelled_grid
from efface.worlds import load_world
from efface.worlds.captions import noun_phrase

from .pictures import load_quietly, sample_with_progress, save_png, to_pictures

SEED = 7


def demo_prompts() -> list[tuple[str, str]]:
    """Prompts that show one object of every category, every place, every style, and words for a whole class; with what is asked for."""
    world = load_world()
    firsts = [world.things[world.members(category)[0]] for category in world.categories]
    places, styles = list(world.backgrounds.values()), list(world.styles.values())
    rows = []
    for i, thing in enumerate(firsts):
        style = styles[i % len(styles)]
        rows.append((f"{style.prefixes[0]} {noun_phrase(thing, thing.name)} {places[i % len(places)].phrases[0]}", thing.id))
    rows += [(f"a photo of a {c.hypernyms[0]}", c.id) for c in list(world.categories.values())[:2]]
    return rows


def run_demo(out: Path) -> tuple[Path, str]:
    """Draw the grid into ``out/pocket.png``; returns its path and a line that says how many pictures show what was asked for."""
    out.mkdir(parents=True, exist_ok=True)
    rows, world = demo_prompts(), load_world()
    images = sample_with_progress(load_quietly("pocket"), [p for p, _ in rows], [SEED] * len(rows), steps=20, guidance=3.0)
    judge = load_judge()
    seen = judge(images).object
    right = sum(o == asked or (o in world.things and world.things[o].category == asked) for o, (_, asked) in zip(seen, rows, strict=True))
    labels = [f"{prompt}\n{o}" for (prompt, _), o in zip(rows, seen, strict=True)]
    grid = labelled_grid(to_pictures(images), labels, title="pocket", subtitle=f"the prompt, and what {judge.id} sees", columns=4, side=224)
    save_png(grid, out / "pocket.png")
    return out / "pocket.png", f"pocket drew {len(rows)} prompts; the judge sees what was asked for in {right} of {len(rows)}"
