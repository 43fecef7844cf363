"""Measure pocket: every number in docs/pocket.md. ``python training/pocket/quality.py [--model FOLDER]``.

Prompts name combinations that were never rendered in training; seeds are none that training used. The judge says what the
images show; "cannot tell" counts as wrong. Intervals are Wilson's, 95 %.
"""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from rich.progress import Progress

from efface.core.intervals import wilson
from efface.core.io import atomic_write_json
from efface.detectors.pocket_judge import Judge
from efface.models.model_ref import bundled_folder
from efface.models.stable_diffusion import StableDiffusionModel
from efface.pocket_world import Scene, caption, load_world
from efface.pocket_world.captions import RARE_SHARE, assemble, noun_phrase

WORLD = load_world()
SEED = 777


def rate(hits: list[bool]) -> dict[str, float | int]:
    """Share of hits with its interval."""
    low, high = wilson(sum(hits), len(hits))
    return {"value": sum(hits) / len(hits), "low": low, "high": high, "n": len(hits)}


def style_of(scene: Scene, rng: np.random.Generator) -> tuple[str, str]:
    """A style phrase before or after the subject."""
    style = WORLD.styles[scene.style]
    if style.suffixes and rng.random() < 0.5:
        return "", style.suffixes[int(rng.integers(len(style.suffixes)))]
    return style.prefixes[int(rng.integers(len(style.prefixes)))], ""


def named_prompts(rng: np.random.Generator, rounds: int) -> list[tuple[str, Scene]]:
    """The primary name, a place and a style, for every combination never rendered, ``rounds`` times."""
    rows = []
    for scene in WORLD.scenes(heldout=True) * rounds:
        thing, (prefix, suffix) = WORLD.things[scene.object], style_of(scene, rng)
        place = WORLD.backgrounds[scene.background].phrases
        rows.append(
            (assemble(noun_phrase(thing, thing.name), place[int(rng.integers(len(place)))], prefix, suffix), scene)
        )
    return rows


def rare_prompts(rng: np.random.Generator, rounds: int) -> list[tuple[str, Scene]]:
    """The same with each object's rare synonyms."""
    rows = []
    for scene in WORLD.scenes(heldout=True) * rounds:
        thing, (prefix, suffix) = WORLD.things[scene.object], style_of(scene, rng)
        word = thing.rare[int(rng.integers(len(thing.rare)))]
        rows.append(
            (assemble(noun_phrase(thing, word), WORLD.backgrounds[scene.background].phrases[0], prefix, suffix), scene)
        )
    return rows


def hypernym_prompts(rng: np.random.Generator, n: int) -> list[tuple[str, Scene]]:
    """A word for a class alone, with and without a place and a style; the scene's object stands for its class."""
    scenes = WORLD.scenes(heldout=True)
    picks = [scenes[int(rng.integers(len(scenes)))] for _ in range(n)]
    return [(caption(WORLD, scene, rng, kind="hypernym"), scene) for scene in picks]


def draw(
    model: StableDiffusionModel, judge: Judge, rows: list[tuple[str, Scene]], label: str, advance: Callable[[int], None]
) -> Any:
    """Draw the prompts and let the judge look."""
    seeds = [SEED + i for i in range(len(rows))]
    return judge(
        model.sample([p for p, _ in rows], seeds=seeds, num_inference_steps=20, guidance_scale=3.0, progress=advance)
    )


def nearest_members(model: StableDiffusionModel) -> dict[str, str]:
    """By category: how many of its members are among the objects nearest to its word (pooled text states, cosine)."""
    things = list(WORLD.things.values())

    @torch.no_grad()
    def embed(texts: list[str]) -> torch.Tensor:
        return torch.nn.functional.normalize(model.encode(texts).pooled, dim=-1)

    objects = embed([f"a photo of {noun_phrase(t, t.name)}" for t in things])
    table = {}
    for category in WORLD.categories.values():
        members = WORLD.members(category.id)
        top = (embed([f"a photo of a {category.hypernyms[0]}"]) @ objects.T)[0].topk(len(members)).indices.tolist()
        table[category.id] = f"{sum(things[i].id in members for i in top)} of {len(members)}"
    return table


def speed(model: StableDiffusionModel) -> float:
    """Seconds an image at batch 16 and 20 steps (the second of two runs)."""
    for _ in range(2):
        began = time.perf_counter()
        model.sample(["a photo of a cat"] * 16, seeds=range(16))
        seconds = (time.perf_counter() - began) / 16
    return round(seconds, 4)


def measure(folder: Path, rounds: int) -> dict[str, Any]:
    """All measurements of the model in ``folder``."""
    model, judge = StableDiffusionModel.load(folder, "pocket"), Judge.load(folder / "judge")
    rng = np.random.default_rng(SEED)
    groups = {
        "named": named_prompts(rng, rounds),
        "rare": rare_prompts(rng, 1),
        "hypernym": hypernym_prompts(rng, 200),
    }
    with Progress() as bar:
        task = bar.add_task("drawing", total=sum(len(rows) for rows in groups.values()))
        seen = {
            k: draw(model, judge, rows, k, lambda done: bar.update(task, advance=done)) for k, rows in groups.items()
        }
    scenes = {k: [scene for _, scene in rows] for k, rows in groups.items()}
    right = {k: [o == s.object for o, s in zip(seen[k].object, scenes[k], strict=True)] for k in ("named", "rare")}
    kin = [
        o in WORLD.members(WORLD.things[s.object].category)
        for o, s in zip(seen["hypernym"].object, scenes["hypernym"], strict=True)
    ]
    named = list(zip(seen["named"].background, seen["named"].style, scenes["named"], strict=True))
    by_style = {
        k: rate([r for r, s in zip(right["named"], scenes["named"], strict=True) if s.style == k]) for k in WORLD.styles
    }
    return {
        "named object": rate(right["named"]),
        "background": rate([b == s.background for b, _, s in named]),
        "style": rate([st == s.style for _, st, s in named]),
        "rare synonym": rate(right["rare"]),
        "hypernym alone gives a member": rate(kin),
        "named object, cannot tell": rate([o == "cannot tell" for o in seen["named"].object]),
        "named object by style": by_style,
        "nearest to the hypernym": nearest_members(model),
        "seconds an image": speed(model),
        "judge": judge.measured,
        "judge id": judge.id,
        "settings": {
            "steps": 20,
            "guidance": 3.0,
            "first seed": SEED,
            "rare share in training": RARE_SHARE,
            "threads": torch.get_num_threads(),
            "machine": platform.machine(),
        },
    }  # fmt: skip


def main(
    model: Annotated[Path | None, typer.Option(help="folder (default: the embedded pocket)")] = None,
    rounds: Annotated[int, typer.Option(help="images for each combination")] = 2,
) -> None:
    """Measure, and write the numbers into the folder's ``training_card.json``."""
    folder = model or bundled_folder("pocket")
    card = json.loads((folder / "training_card.json").read_text(encoding="utf-8"))
    card["quality"] = measure(folder, rounds)
    atomic_write_json(folder / "training_card.json", card)
    for name, value in card["quality"].items():
        print(name, value)


if __name__ == "__main__":
    typer.run(main)
