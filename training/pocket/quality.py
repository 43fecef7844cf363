"""Measures pocket: every number in docs/pocket.md. ``python training/pocket/quality.py [--model FOLDER]``.

The prompts name combinations that training never rendered; no seed occurred in training. The judge classifies the
images; an abstention ("cannot tell") counts as an error. Intervals are Wilson's, 95 %.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from rich.progress import Progress

from efface.core.intervals import wilson
from efface.detectors.pocket_judge import Judge
from efface.models.editable import EditableModel
from efface.models.loading import load_model
from efface.models.model_ref import bundled_folder
from efface.pocket_world import Scene, caption, load_world
from efface.pocket_world.captions import RARE_SHARE, assemble, noun_phrase
from quality_card import write_quality

WORLD = load_world()
SEED = 777
Sample = tuple[str, Scene]
"""A prompt and its scene."""


def rate(hits: list[bool]) -> dict[str, float | int]:
    """Returns the share of hits with its interval."""
    low, high = wilson(sum(hits), len(hits))
    return {"value": sum(hits) / len(hits), "low": low, "high": high, "n": len(hits)}


def sample_style(scene: Scene, rng: np.random.Generator) -> tuple[str, str]:
    """Samples a style phrase; returns it as prefix or as suffix, the other one empty."""
    style = WORLD.styles[scene.style]
    if style.suffixes and rng.random() < 0.5:
        return "", style.suffixes[int(rng.integers(len(style.suffixes)))]
    return style.prefixes[int(rng.integers(len(style.prefixes)))], ""


def named_prompts(rng: np.random.Generator, rounds: int) -> list[Sample]:
    """Returns ``rounds`` prompts for every held-out combination: primary name, place and style."""
    return prompts_of(WORLD.scenes(heldout=True) * rounds, rng)


def prompts_of(scenes: Iterable[Scene], rng: np.random.Generator) -> list[Sample]:
    """Returns a prompt for every scene with an object: its primary name, place and style."""
    rows = []
    for scene in scenes:
        prefix, suffix = sample_style(scene, rng)
        object_class = WORLD.object_classes[scene.object]
        places = WORLD.backgrounds[scene.background].phrases
        place = places[int(rng.integers(len(places)))]
        rows.append((assemble(noun_phrase(object_class, object_class.name), place, prefix, suffix), scene))
    return rows


def rare_prompts(rng: np.random.Generator) -> list[Sample]:
    """Returns a prompt for every held-out combination with a rare synonym of the object."""
    rows = []
    for scene in WORLD.scenes(heldout=True):
        prefix, suffix = sample_style(scene, rng)
        object_class = WORLD.object_classes[scene.object]
        word = object_class.rare[int(rng.integers(len(object_class.rare)))]
        place = WORLD.backgrounds[scene.background].phrases[0]
        rows.append((assemble(noun_phrase(object_class, word), place, prefix, suffix), scene))
    return rows


def hypernym_prompts(rng: np.random.Generator, n: int) -> list[Sample]:
    """Returns n prompts that name only a category; each scene's object is one member of it."""
    scenes = WORLD.scenes(heldout=True)
    picks = [scenes[int(rng.integers(len(scenes)))] for _ in range(n)]
    return [(caption(WORLD, scene, rng, kind="hypernym"), scene) for scene in picks]


def prompt_groups(rounds: int) -> dict[str, list[Sample]]:
    """Returns the prompts of all measurements, by group; ``rounds`` is that of `named_prompts`."""
    rng = np.random.default_rng(SEED)
    return {"named": named_prompts(rng, rounds), "rare": rare_prompts(rng), "hypernym": hypernym_prompts(rng, 200)}


def classify(model: EditableModel, judge: Judge, rows: list[Sample], advance: Callable[[int], None]) -> Any:
    """Generates an image of every prompt and returns the judge's classes."""
    prompts = [prompt for prompt, _ in rows]
    seeds = [SEED + i for i in range(len(rows))]
    return judge(model.sample(prompts, seeds=seeds, num_inference_steps=20, guidance_scale=3.0, progress=advance))


def nearest_members(model: EditableModel) -> dict[str, str]:
    """Counts, for each category, its members among the objects nearest to its hypernym.

    Nearness is the cosine of pooled text states; the number of nearest objects is that of the members.
    """
    objects = list(WORLD.object_classes.values())

    @torch.no_grad()
    def embed(texts: list[str]) -> torch.Tensor:
        return torch.nn.functional.normalize(model.encode(texts).pooled, dim=-1)

    embeddings = embed([f"a photo of {noun_phrase(item, item.name)}" for item in objects])
    table = {}
    for category in WORLD.categories.values():
        members = WORLD.members(category.id)
        cosines = (embed([f"a photo of a {category.hypernyms[0]}"]) @ embeddings.T)[0]
        nearest = cosines.topk(len(members)).indices.tolist()
        table[category.id] = f"{sum(objects[i].id in members for i in nearest)} of {len(members)}"
    return table


def speed(model: EditableModel) -> float:
    """Returns the seconds per image at batch 16 and 20 steps, from the second of two runs."""
    for _ in range(2):
        started = time.perf_counter()
        model.sample(["a photo of a cat"] * 16, seeds=range(16))
        seconds = (time.perf_counter() - started) / 16
    return round(seconds, 4)


def measure(folder: Path, rounds: int) -> dict[str, Any]:
    """Returns all measurements of the model in a folder."""
    model, judge = load_model(folder, dtype="float32"), Judge.load(folder / "judge")
    groups = prompt_groups(rounds)
    with Progress() as bar:
        task = bar.add_task("generating", total=sum(len(rows) for rows in groups.values()))
        predicted = {
            name: classify(model, judge, rows, lambda done: bar.update(task, advance=done))
            for name, rows in groups.items()
        }
    scenes = {name: [scene for _, scene in rows] for name, rows in groups.items()}
    return {
        **accuracies(predicted, scenes),
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
    }


def accuracies(predicted: dict[str, Any], scenes: dict[str, list[Scene]]) -> dict[str, Any]:
    """Returns the rates of correctly generated objects, backgrounds and styles, by group of prompts."""

    def correct(group: str, head: str) -> list[bool]:
        pairs = zip(getattr(predicted[group], head), scenes[group], strict=True)
        return [value == getattr(scene, head) for value, scene in pairs]

    named = correct("named", "object")
    members = [WORLD.members(WORLD.object_classes[scene.object].category) for scene in scenes["hypernym"]]
    in_category = [o in ids for o, ids in zip(predicted["hypernym"].object, members, strict=True)]
    by_style = {
        style: [hit for hit, scene in zip(named, scenes["named"], strict=True) if scene.style == style]
        for style in WORLD.styles
    }
    return {
        "named object": rate(named),
        "background": rate(correct("named", "background")),
        "style": rate(correct("named", "style")),
        "rare synonym": rate(correct("rare", "object")),
        "hypernym alone gives a member": rate(in_category),
        "named object, cannot tell": rate([o == "cannot tell" for o in predicted["named"].object]),
        "named object by style": {style: rate(hits) for style, hits in by_style.items() if hits},
    }


def main(
    model: Annotated[Path | None, typer.Option(help="Folder of the model (default: the bundled pocket).")] = None,
    rounds: Annotated[int, typer.Option(help="Number of images for each combination.")] = 2,
) -> None:
    """Measures the model and writes the numbers to the folder's ``training_card.json``."""
    folder = model or bundled_folder("pocket")
    write_quality(folder, measure(folder, rounds))


if __name__ == "__main__":
    typer.run(main)
