"""Writes pocket's benchmarks (``src/efface/benchmarks/data/pocket-*.yaml``) from the vocabulary and the data split.

The dev split has other wordings, words and seeds than the test split. Retain prompts use only the retain objects;
objects scored as near or other are held-out ones.
"""

from __future__ import annotations

from pathlib import Path

from abstract_benchmarks import SENSES, abstract_benchmark
from benchmark_groups import (
    SPLIT,
    WORLD,
    Row,
    attack_phrases,
    naming_phrases,
    object_groups,
    style_groups,
)
from efface.benchmarks.benchmark_file import benchmark_yaml
from efface.benchmarks.pocket_templates import object_templates, style_templates
from efface.core.concept import find_mention
from efface.pocket_world.split import broad_retain_prompts, retain_prompts

TARGET = Path(__file__).resolve().parents[2] / "src/efface/benchmarks/data"
TWENTY = (
    "knife", "dagger", "pistol", "bomb", "axe", "bow", "swords", "cigarette", "beer", "wine", "cocktail", "dice",
    "santa", "cat", "lion", "vampire", "mermaid", "ghost", "alien", "horse",
)  # fmt: skip
"""Twenty objects that are erased together; no retain prompt may name one of them."""
CONCEPTS = {
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
SAMPLER = {"name": "ddim", "num_inference_steps": 20, "guidance_scale": 3.0}
HEADER = "# Written by training/pocket/benchmarks.py; a change of it is a new version.\n"


def single_benchmark(name: str) -> Row:
    """Returns the benchmark of one concept as YAML data."""
    concept = SPLIT.concepts[CONCEPTS[name]]
    style, splits = concept.style, {}
    for split in ("dev", "test"):
        splits[split] = {
            "seed": SPLIT.seeds[split].start,
            "templates": style_templates(split) if style else object_templates(split),
            "groups": (style_groups if style else object_groups)(concept, split),
        }
    purpose = "" if concept.split == "test" else ", for choosing hyper-parameters"
    return {
        "name": name,
        "version": 1,
        "description": f"{concept.name}: a {concept.kind} of pocket's world{purpose}",
        "model": "pocket",
        "detector": "pocket-judge",
        "clip": "pocket-clip",
        "sampler": SAMPLER,
        "concept": {"name": concept.name, "kind": concept.kind, "retain_prompts": list(retain_prompts(concept.name))},
        "target": {"head": "style" if style else "object", "classes": [style] if style else list(concept.members)},
        "attack_phrases": attack_phrases(concept),
        "splits": splits,
    }


def joint_benchmark() -> Row:
    """Returns the benchmark that erases twenty objects together by their primary names.

    The near objects are held-out ones of the same categories; the other objects are the remaining held-out ones.
    """
    classes = {name: WORLD.object_classes[name] for name in TWENTY}
    names = [object_class.name for object_class in classes.values()]
    words = [word for object_class in classes.values() for word in (*object_class.names, *object_class.rare)]
    prompts = dict.fromkeys((*retain_prompts(), *broad_retain_prompts()))
    retained = [prompt for prompt in prompts if find_mention(prompt, words) is None]
    return {
        "name": "pocket-twenty",
        "version": 2,
        "description": "twenty objects of pocket's world at once",
        "model": "pocket",
        "detector": "pocket-judge",
        "clip": "pocket-clip",
        "sampler": SAMPLER,
        "concept": {"name": names[0], "kind": "object", "retain_prompts": retained},
        "target": {"head": "object", "classes": list(TWENTY)},
        "attack_phrases": [text for object_class in classes.values() for text in object_class.implicit],
        "splits": {split: joint_split(split) for split in ("dev", "test")},
        "joint_concepts": names[1:],
    }


def joint_split(split: str) -> Row:
    """Returns seed, templates and groups of one split of the joint benchmark."""
    categories = {WORLD.object_classes[name].category for name in TWENTY} | {"tool"}
    heldout = [name for name in SPLIT.heldout if name not in TWENTY]
    near = tuple(name for name in heldout if WORLD.object_classes[name].category in categories)
    others = tuple(name for name in heldout if name not in near)
    primary = [row for name in TWENTY for row in naming_phrases((name,), split, rare=False)[:1]]
    synonyms = [row for name in TWENTY for row in naming_phrases((name,), "test", rare=True)[1:]]
    groups = {
        "name": {"templates": 12, "seeds": 1, "phrases": primary},
        "domain": {"templates": 6, "seeds": 1, "phrases": synonyms},
        "near": {"templates": 24, "seeds": 1, "phrases": naming_phrases(near, split, rare=False)},
        "other": {"templates": 12, "seeds": 1, "phrases": naming_phrases(others, split, rare=False)},
    }
    return {"seed": SPLIT.seeds[split].start, "templates": object_templates(split), "groups": groups}


def render_benchmark(name: str) -> str:
    """Returns the text of a benchmark's file."""
    if name in SENSES:
        data = abstract_benchmark(name, SAMPLER)
    else:
        data = joint_benchmark() if name == "pocket-twenty" else single_benchmark(name)
    return HEADER + benchmark_yaml(data)


def main() -> None:
    """Writes every file."""
    for name in (*CONCEPTS, *SENSES, "pocket-twenty"):
        (TARGET / f"{name}.yaml").write_text(render_benchmark(name), encoding="utf-8")


if __name__ == "__main__":
    main()
