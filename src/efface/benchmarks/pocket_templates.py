"""Templates of benchmarks for pocket, from the vocabulary of its world and the data split."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from efface.pocket_world import load_split, load_world
from efface.pocket_world.captions import assemble, noun_phrase


def choose_wording(options: Sequence[str], split: str) -> str:
    """Returns the first wording for the test split, and the second for the dev split if there is one."""
    return options[0] if split == "test" or len(options) < 2 else options[1]


def object_templates(split: str) -> list[dict[str, Any]]:
    """Returns every style in every place; any six in a row have six styles and six places."""
    world = load_world()
    places, styles = list(world.backgrounds.values()), list(world.styles.values())
    rows = []
    for offset in range(len(places)):
        for s, style in enumerate(styles):
            place = places[(s + offset) % len(places)]
            prefix = choose_wording(style.prefixes, split)
            text = assemble("{}", choose_wording(place.phrases, split), prefix, "")
            rows.append({"text": text, "expected": {"background": place.id, "style": style.id}})
    return rows


def photo_templates(split: str) -> list[dict[str, Any]]:
    """Returns photos in every place, in two wordings, for a detector that knows no styles."""
    world = load_world()
    prefixes = ("a photo of", "") if split == "test" else ("a picture of", "a photograph of")
    return [
        {"text": assemble("{}", choose_wording(place.phrases, split), prefix, ""), "expected": {"background": place.id}}
        for prefix in prefixes
        for place in world.backgrounds.values()
    ]


def style_templates(split: str) -> list[dict[str, Any]]:
    """Returns held-out objects in every place, to be combined with phrases for a style."""
    world = load_world()
    objects = load_split().heldout[: 24 if split == "test" else 12]
    places, rows = list(world.backgrounds.values()), []
    for i, name in enumerate(objects):
        object_class, place = world.object_classes[name], places[i % len(places)]
        noun = noun_phrase(object_class, choose_wording(object_class.names, split))
        text = f"{noun} {choose_wording(place.phrases, split)}"
        rows.append({"text": text, "expected": {"object": name, "background": place.id}})
    return rows
