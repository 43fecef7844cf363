"""Plans of benchmarks for pocket: its judge where the concept is one of the judge's classes, else zero-shot CLIP."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from efface.core.concept import Concept, find_mention
from efface.core.text_fields import fold_case
from efface.pocket_world import load_split, load_world
from efface.pocket_world.captions import noun_phrase, with_article
from efface.pocket_world.split import retain_prompts
from efface.pocket_world.world import ObjectClass

from .detector_names import POCKET_CLIP, POCKET_JUDGE
from .draft_plan import DraftPlan, Subject
from .pocket_templates import object_templates, photo_templates, style_templates
from .samples import Sampler

SPLITS = ("dev", "test")


@dataclass(frozen=True)
class JudgeTarget:
    """A concept as pocket's judge knows it.

    Attributes:
        head: ``object`` or ``style``.
        classes: the judge's classes that count as the concept.
        name: phrase with the concept's name.
        domain: other phrases for the concept.
    """

    head: str
    classes: tuple[str, ...]
    name: str
    domain: tuple[str, ...]


def pocket_plan(concept: Concept, domain: Sequence[str] = ()) -> DraftPlan:
    """Returns the plan of a benchmark for pocket.

    Args:
        concept: the concept; without retain prompts, it gets pocket's own.
        domain: other phrases for the concept; the world's own words by default, if the judge knows the concept.
    """
    target = judge_target(concept)
    retained = concept.retain_prompts or tuple(p for p in retain_prompts() if find_mention(p, concept.words) is None)
    known = target or JudgeTarget("object", (concept.name,), with_article(concept.name), ())
    phrases = tuple(domain) or known.domain
    is_style = known.head == "style"
    templates = style_templates if is_style else object_templates if target else photo_templates
    return DraftPlan(
        head=known.head,
        classes=known.classes,
        name=dict.fromkeys(SPLITS, (known.name,)),
        domain=dict.fromkeys(SPLITS, phrases),
        candidates=_styles(known.classes) if is_style else _objects(known.classes, by_id=target is not None),
        templates={split: templates(split) for split in SPLITS},
        retain_prompts=retained,
        detector=POCKET_JUDGE if target else f"zero-shot:{POCKET_CLIP}",
        clip=POCKET_CLIP,
        sampler=Sampler("ddim", 20, 3.0),
        others=(Subject("a photo of {}", "photo", ()),) if is_style else (),
    )


def judge_target(concept: Concept) -> JudgeTarget | None:
    """Finds the judge's classes of a concept: an object, a category of objects or a style; None if it knows none."""
    world, name = load_world(), fold_case(concept.name)
    for item in world.object_classes.values():
        words = (*item.names, *item.rare)
        if name in map(fold_case, words):
            others = [noun_phrase(item, word) for word in words if fold_case(word) not in _given(concept)]
            return JudgeTarget("object", (item.id,), noun_phrase(item, concept.name), tuple(others or item.implicit))
    for category in world.categories.values():
        if name in map(fold_case, category.hypernyms):
            members = [world.object_classes[member] for member in world.members(category.id)]
            phrases = [noun_phrase(item, item.name) for item in members if fold_case(item.name) not in _given(concept)]
            classes = tuple(item.id for item in members)
            return JudgeTarget("object", classes, with_article(concept.name), tuple(phrases))
    for style in world.styles.values():
        named = [prefix for prefix in style.prefixes if find_mention(prefix, [concept.name])]
        if named and style.id != "photo":
            phrases = [f"{prefix} {{}}" for prefix in style.prefixes if prefix not in named]
            phrases += [f"{{}}, {suffix}" for suffix in style.suffixes]
            return JudgeTarget("style", (style.id,), f"{named[0]} {{}}", tuple(phrases))
    return None


def _given(concept: Concept) -> set[str]:
    """The words that a method receives."""
    return {fold_case(word) for word in concept.words}


def _objects(excluded: Sequence[str], *, by_id: bool) -> tuple[Subject, ...]:
    """The held-out objects; their classes are ids for the judge, names for CLIP."""
    classes = [load_world().object_classes[name] for name in load_split().heldout if name not in excluded]
    return tuple(Subject(_phrase(item), item.id if by_id else item.name, (*item.names, *item.rare)) for item in classes)


def _phrase(item: ObjectClass) -> str:
    return noun_phrase(item, item.name)


def _styles(excluded: Sequence[str]) -> tuple[Subject, ...]:
    styles = [style for style in load_world().styles.values() if style.id not in (*excluded, "photo")]
    return tuple(Subject(f"{style.prefixes[0]} {{}}", style.id, ()) for style in styles)
