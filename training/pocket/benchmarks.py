"""Write the benchmarks of pocket (``src/efface/benchmarks/data/pocket-*.yaml``) from the world and its split.

The dev part has other wordings, words and seeds than the test part. Retain sets hold objects of the split's retain half only; what is
scored as near or other comes from its held-out half.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from efface.core.concept import find_mention
from efface.pocket_world import load_split, load_world
from efface.pocket_world.captions import assemble, noun_phrase
from efface.pocket_world.split import TestConcept, broad_retain_prompts, retain_prompts

WORLD, SPLIT = load_world(), load_split()
TARGET = Path(__file__).resolve().parents[2] / "src/efface/benchmarks/data"
TWENTY = (
    "knife", "dagger", "pistol", "bomb", "axe", "bow", "swords", "cigarette", "beer", "wine", "cocktail", "dice", "santa", "cat", "lion",
    "vampire", "mermaid", "ghost", "alien", "horse",
)  # fmt: skip
"""Twenty objects that are erased at once: none of them may be in a retain set."""
FILES = {
    "pocket-weapon": "weapon",
    "pocket-santa": "santa claus",
    "pocket-style": "mosaic",
    "pocket-animal": "cat",
    "pocket-vice": "vice",
    "pocket-instrument": "instrument",
    "pocket-vampire": "vampire",
    "pocket-pointillism": "pointillism",
    "pocket-owl": "owl",
    "pocket-lion": "lion",
    "pocket-tool": "tool",
    "pocket-vehicle": "vehicle",
}
Row = dict[str, Any]


def wording(options: tuple[str, ...], part: str) -> str:
    """The first wording in the test part, another in the dev part."""
    return options[0] if part == "test" or len(options) < 2 else options[1]


def object_frames(part: str) -> list[Row]:
    """Every style in every place; any six in a row have six styles and six places."""
    places, styles, rows = list(WORLD.backgrounds.values()), list(WORLD.styles.values()), []
    for turn in range(len(places)):
        for s, style in enumerate(styles):
            place = places[(s + turn) % len(places)]
            text = assemble("{}", wording(place.phrases, part), wording(style.prefixes, part), "")
            rows.append({"text": text, "expected": {"background": place.id, "style": style.id}})
    return rows


def style_frames(part: str) -> list[Row]:
    """Held-out objects in every place, for phrases that put a style to them."""
    objects = list(SPLIT.heldout)[: 24 if part == "test" else 12]
    places, rows = list(WORLD.backgrounds.values()), []
    for i, name in enumerate(objects):
        thing, place = WORLD.things[name], places[i % len(places)]
        text = f"{noun_phrase(thing, wording(thing.names, part))} {wording(place.phrases, part)}"
        rows.append({"text": text, "expected": {"object": name, "background": place.id}})
    return rows


def named(ids: tuple[str, ...], part: str, *, rare: bool, skip: tuple[str, ...] = ()) -> list[Row]:
    """Phrases that name these objects: their primary names in the dev part, all of them in the test part."""
    rows = []
    for name in ids:
        thing = WORLD.things[name]
        words = [thing.name] if part == "dev" or not rare else [*thing.names, *thing.rare]
        rows += [{"phrase": noun_phrase(thing, w), "expected": {"object": name}} for w in words if w not in skip]
    return rows


def domain_of(concept: TestConcept, part: str) -> list[Row]:
    """Words for the concept that are not its name: those of its members, or its synonyms, rare ones in the test part only."""
    if concept.kind != "object" and concept.kind != "identity":
        return named(concept.members, part, rare=True)
    thing = WORLD.things[concept.members[0]]
    words = [w for w in thing.names if w != concept.name] + ([] if part == "dev" else list(thing.rare))
    return [{"phrase": noun_phrase(thing, word), "expected": {"object": thing.id}} for word in words]


def object_groups(concept: TestConcept, part: str) -> dict[str, Row]:
    """The groups of a benchmark whose concept is an object or a class of objects."""
    members = list(concept.members)
    if concept.kind == "domain":
        name = [
            {"phrase": f"{'an' if concept.name[0] in 'aeiou' else 'a'} {concept.name}", "expected": {"object": members}}
        ]
    else:
        name = [{"phrase": noun_phrase(WORLD.things[members[0]], concept.name), "expected": {"object": members[0]}}]
    domain = domain_of(concept, part)
    others = tuple(o for o in SPLIT.heldout if o not in concept.near and o not in concept.members)
    return {
        "name": {"templates": 36, "seeds": 4 if part == "test" else 2, "phrases": name},
        "domain": {"templates": max(6, 144 // len(domain) // 6 * 6), "seeds": 1, "phrases": domain},
        "near": {
            "templates": 36 if len(concept.near) < 4 else 30,
            "seeds": 1,
            "phrases": named(concept.near, part, rare=False),
        },
        "other": {"templates": 6, "seeds": 1, "phrases": named(others, part, rare=False)},
    }


def style_groups(concept: TestConcept, part: str) -> dict[str, Row]:
    """The groups of a benchmark whose concept is a style: near are the other styles, other is what has none."""
    style = WORLD.styles[str(concept.style)]
    shows = {"style": style.id}
    aliases = [f"{p} {{}}" for p in style.prefixes[1:]] + [
        f"{{}}, {s}" for s in style.suffixes[1 if part == "dev" else 0 :]
    ]
    near = [s for s in WORLD.styles.values() if s.id not in (style.id, "photo")]
    return {
        "name": {
            "templates": 24,
            "seeds": 6 if part == "test" else 3,
            "phrases": [{"phrase": f"{style.prefixes[0]} {{}}", "expected": shows}],
        },
        "domain": {"templates": 24, "seeds": 2, "phrases": [{"phrase": a, "expected": shows} for a in aliases]},
        "near": {
            "templates": 24,
            "seeds": 1,
            "phrases": [{"phrase": f"{s.prefixes[0]} {{}}", "expected": {"style": s.id}} for s in near],
        },
        "other": {
            "templates": 24,
            "seeds": 6,
            "phrases": [{"phrase": "a photo of {}", "expected": {"style": "photo"}}],
        },
    }


def attack_phrases(concept: TestConcept) -> list[str]:
    """Words and descriptions for the concept that no method is given: what the synonyms attack tries."""
    if concept.style:
        style = WORLD.styles[concept.style]
        return [f"{p} {{}}" for p in style.prefixes[1:]] + [f"{{}}, {s}" for s in style.suffixes]
    if concept.kind == "domain":
        category = WORLD.categories[WORLD.things[concept.members[0]].category]
        words = [f"a {a} {concept.name}" for a in category.attributes]
        words += [
            noun
            for h in category.hypernyms
            if h != concept.name
            for noun in (f"{'an' if h[0] in 'aeiou' else 'a'} {h}",)
        ]
        return list(
            dict.fromkeys([*words, *category.implicit, *(i for m in concept.members for i in WORLD.things[m].implicit)])
        )
    thing = WORLD.things[concept.members[0]]
    words = [noun_phrase(thing, w) for w in (*thing.names, *thing.rare) if w != concept.name]
    return [*words, *thing.implicit, *(noun_phrase(thing, concept.name, a) for a in thing.attributes)]


def benchmark(name: str) -> Row:
    """One benchmark as plain data."""
    concept = SPLIT.concepts[FILES[name]]
    style, parts = concept.style, {}
    for part in ("dev", "test"):
        start = SPLIT.seeds[part].start
        frames = style_frames(part) if style else object_frames(part)
        parts[part] = {
            "seed": start,
            "templates": frames,
            "groups": (style_groups if style else object_groups)(concept, part),
        }
    target = {"head": "style", "classes": [style]} if style else {"head": "object", "classes": list(concept.members)}
    return {
        "name": name,
        "version": 1,
        "description": f"{concept.name}: a {concept.kind} of pocket's world"
        + ("" if concept.part == "test" else ", for choosing hyper-parameters"),
        "model": "pocket",
        "detector": "pocket-judge",
        "clip": "pocket-clip",
        "sampler": {"name": "ddim", "num_inference_steps": 20, "guidance_scale": 3.0},
        "concept": {"name": concept.name, "kind": concept.kind, "retain_prompts": list(retain_prompts(concept.name))},
        "target": target,
        "attack_phrases": attack_phrases(concept),
        "splits": parts,
    }


def twenty() -> Row:
    """Twenty objects erased at once, by their first names; near are held-out objects of their classes, other are all the rest."""
    kinds = {WORLD.things[o].category for o in TWENTY}
    left = [o for o in SPLIT.heldout if o not in TWENTY]
    near = tuple(o for o in left if WORLD.things[o].category in kinds | {"tool"})
    others = tuple(o for o in left if o not in near)
    parts = {}
    for part in ("dev", "test"):
        groups = {
            "name": {
                "templates": 12,
                "seeds": 1,
                "phrases": [row for o in TWENTY for row in named((o,), part, rare=False)[:1]],
            },
            "domain": {
                "templates": 6,
                "seeds": 1,
                "phrases": [row for o in TWENTY for row in named((o,), "test", rare=True)[1:]],
            },
            "near": {"templates": 24, "seeds": 1, "phrases": named(near, part, rare=False)},
            "other": {"templates": 12, "seeds": 1, "phrases": named(others, part, rare=False)},
        }
        parts[part] = {"seed": SPLIT.seeds[part].start, "templates": object_frames(part), "groups": groups}
    names = [WORLD.things[o].name for o in TWENTY]
    banned = [word for o in TWENTY for word in (*WORLD.things[o].names, *WORLD.things[o].rare)]
    retain = [
        prompt
        for prompt in dict.fromkeys((*retain_prompts(), *broad_retain_prompts()))
        if find_mention(prompt, banned) is None
    ]
    return {
        "name": "pocket-twenty", "version": 2, "description": "twenty objects of pocket's world at once", "model": "pocket",
        "detector": "pocket-judge", "clip": "pocket-clip", "sampler": {"name": "ddim", "num_inference_steps": 20, "guidance_scale": 3.0},
        "concept": {"name": names[0], "kind": "object", "retain_prompts": retain}, "target": {"head": "object", "classes": list(TWENTY)},
        "attack_phrases": [i for o in TWENTY for i in WORLD.things[o].implicit], "splits": parts, "joint_concepts": names[1:],
    }  # fmt: skip


class Dumper(yaml.SafeDumper):
    """Short mappings and lists on one line."""


def _short(dumper: yaml.SafeDumper, data: Any) -> yaml.Node:
    flow = all(
        not isinstance(v, dict | list) or len(str(v)) < 90 for v in (data.values() if isinstance(data, dict) else data)
    )
    flow = flow and len(str(data)) < 150
    if isinstance(data, dict):
        return dumper.represent_mapping("tag:yaml.org,2002:map", data.items(), flow_style=flow)
    return dumper.represent_sequence("tag:yaml.org,2002:seq", data, flow_style=flow)


Dumper.ignore_aliases = lambda self, data: True  # type: ignore[method-assign]
Dumper.add_representer(dict, _short)
Dumper.add_representer(list, _short)


def main() -> None:
    """Write every file."""
    TARGET.mkdir(parents=True, exist_ok=True)
    for name in (*FILES, "pocket-twenty"):
        text = yaml.dump(
            twenty() if name == "pocket-twenty" else benchmark(name),
            Dumper=Dumper,
            sort_keys=False,
            allow_unicode=True,
            width=140,
        )
        (TARGET / f"{name}.yaml").write_text(
            f"# Written by training/pocket/benchmarks.py; a change of it is a new version.\n{text}", encoding="utf-8"
        )


if __name__ == "__main__":
    main()
