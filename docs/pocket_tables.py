"""Tables of pocket: measured quality, and the objects, backgrounds, styles and concepts of its world."""

from __future__ import annotations

import json
from typing import Any

from result_tables import table

from efface.models.model_ref import bundled_folder
from efface.pocket_world import load_split, load_world

GOALS = {
    "named object": "90 %",
    "background": "95 %",
    "style": "95 %",
    "rare synonym": "90 %",
    "hypernym alone gives a member": "90 %",
}
COMPONENT_FOLDERS = {"clip": "text_encoder", "decoder": "vae"}
"""Folder of a training stage's component, where its name differs."""


def percent(row: dict[str, float]) -> str:
    """A rate with its interval and n."""
    return f"{row['value']:.1%} ({row['low']:.1%} to {row['high']:.1%}, n = {row['n']})"


def pocket_tables() -> str:
    """Pocket's measured quality, from training_card.json."""
    card = json.loads((bundled_folder("pocket") / "training_card.json").read_text())
    quality = card["quality"]
    nearest = [[name, str(count)] for name, count in quality["nearest to the hypernym"].items()]
    lines = [
        *_image_quality(quality),
        "",
        *_judge_quality(quality),
        "",
        *table(["text encoder: members among the objects nearest to the class's word", "members"], nearest),
        "",
        *_training(card),
    ]
    return "\n".join(lines)


def _image_quality(quality: dict[str, Any]) -> list[str]:
    rows = [[name, goal, percent(quality[name])] for name, goal in GOALS.items()]
    rows += [
        [f"named object, style {style}", "", percent(row)] for style, row in quality["named object by style"].items()
    ]
    rows.append(["named object: the judge cannot tell", "", percent(quality["named object, cannot tell"])])
    threads = quality["settings"]["threads"]
    seconds = f"{quality['seconds an image']:.2f}"
    rows.append([f"seconds per image, batch size 16, {threads} threads", "0.3", seconds])
    return table(["prompts of combinations not rendered in training, 20 DDIM steps", "goal", "measured"], rows)


def pocket_flow_tables() -> str:
    """Pocket-flow's measured quality, beside pocket's, from the training cards."""
    card = _card("pocket-flow")
    title = f"prompts of combinations not rendered in training, {card['quality']['settings']['steps']} steps"
    return "\n".join([*_beside_pocket("pocket-flow", title), "", *_sizes(card)])


def pocket_janus_tables() -> str:
    """Pocket-janus's measured quality, beside pocket's, from the training cards."""
    measured = _beside_pocket("pocket-janus", "prompts of combinations not rendered in training")
    card = _card("pocket-janus")
    trained = percent(card["quality"]["named object, combination of training"])
    learnt = table(["prompts of combinations rendered in training", "pocket-janus"], [["named object", trained]])
    return "\n".join([*measured, "", *learnt, "", *_sizes(card)])


def _card(name: str) -> dict[str, Any]:
    card: dict[str, Any] = json.loads((bundled_folder(name) / "training_card.json").read_text())
    return card


def _sizes(card: dict[str, Any]) -> list[str]:
    return table(["component", "parameters"], [[name, f"{count:,}"] for name, count in card["parameters"].items()])


def _beside_pocket(name: str, title: str) -> list[str]:
    """A model's rates beside pocket's, on the same prompts."""
    quality, pocket = _card(name)["quality"], _card("pocket")["quality"]
    rows = [[goal, percent(quality[goal]), percent(pocket[goal])] for goal in GOALS]
    rows += [
        [f"named object, style {style}", percent(row), percent(pocket["named object by style"][style])]
        for style, row in quality["named object by style"].items()
    ]
    abstentions = "named object, cannot tell"
    rows.append(["named object: the judge cannot tell", percent(quality[abstentions]), percent(pocket[abstentions])])
    cpu_seconds = f"{quality['CPU seconds an image']:.2f} ({quality['settings']['threads']} thread)"
    wall_seconds = f"wall time {pocket['seconds an image']:.2f} ({pocket['settings']['threads']} threads)"
    rows.append(["CPU seconds per image, batch size 16", cpu_seconds, wall_seconds])
    return table([title, name, "pocket"], rows)


def _judge_quality(quality: dict[str, Any]) -> list[str]:
    judge = quality["judge"]
    heads = ("object", "background", "style")
    rows = [["goal, clean", "99 %", "98 %", "99 %"]]
    rows += [[kind, *(f"{judge[kind][head]:.1%}" for head in heads)] for kind in ("clean", "blurred", "noisy")]
    title = f"judge ({quality['judge id']}), fresh renderings, n = {judge['n']}"
    destroyed = [
        [kind, f"{row['cannot tell or nothing']:.1%}", str(row["n"])]
        for kind, row in judge.items()
        if isinstance(row, dict) and "n" in row
    ]
    head = ["destroyed images", "judged as cannot tell or nothing", "n"]
    return [*table([title, *heads], rows), "", *table(head, destroyed)]


def _training(card: dict[str, Any]) -> list[str]:
    rows = []
    for stage, row in card["stages"].items():
        parameters = card["parameters"][COMPONENT_FOLDERS.get(stage, stage)]
        rows.append([stage, f"{row['steps']:,}", f"{row['images seen']:,}", f"{parameters:,}"])
    return table(["stage", "steps", "images seen", "parameters"], rows)


def world_tables() -> str:
    """Every object with its names, and the backgrounds, styles and concepts of pocket's world."""
    world, split = load_world(), load_split()
    categories = [
        [c.id, ", ".join(c.hypernyms), ", ".join(c.attributes), ", ".join(c.implicit)]
        for c in world.categories.values()
    ]
    backgrounds = [[b.id, ", ".join(b.phrases), ", ".join(b.rare)] for b in world.backgrounds.values()]
    styles = [
        [s.id, ", ".join(prefix or "(nothing)" for prefix in s.prefixes), ", ".join(s.suffixes)]
        for s in world.styles.values()
    ]
    concepts = [
        [c.name, c.split, c.kind, ", ".join(c.members) or str(c.style), ", ".join(c.near)]
        for c in split.concepts.values()
    ]
    lines = [
        *table(["class", "words for the class", "adjectives", "descriptions"], categories),
        "",
        *table(["object", "class", "names", "rare names", "descriptions", "used in"], _objects()),
        "",
        *table(["background", "phrases", "rare phrases"], backgrounds),
        "",
        *table(["style", "before the subject", "after the subject"], styles),
        "",
        *table(["concept", "split", "kind", "members", "near neighbours"], concepts),
    ]
    return "\n".join(lines)


def _objects() -> list[list[str]]:
    world, split = load_world(), load_split()
    uses = dict.fromkeys(split.retain, "retain prompts") | dict.fromkeys(split.heldout, "evaluation")
    return [
        [
            *(o.id, o.category),
            *(", ".join(words) for words in (o.names, o.rare, o.implicit)),
            uses.get(o.id, "a test concept's domain"),
        ]
        for o in world.object_classes.values()
    ]
