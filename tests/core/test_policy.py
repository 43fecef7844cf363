"""The content policy. The tests assemble the prompts, so that the repository contains none."""

from __future__ import annotations

import itertools
from importlib.resources import files

import pytest

from efface.core.concept import Concept
from efface.core.errors import EffaceError
from efface.core.policy import ContentPolicyError, check_prompts, is_refused


def read_lists() -> dict[str, list[str]]:
    lists: dict[str, list[str]] = {}
    for line in files("efface.core").joinpath("data", "policy.txt").read_text(encoding="utf-8").splitlines():
        if line.startswith("["):
            rows = lists.setdefault(line.strip("[]"), [])
        elif line and not line.startswith("#"):
            rows.append(line.removesuffix("*"))
    return lists


WORDS = read_lists()
MINOR, SEXUAL = "child", "nude"


def test_every_pair_of_listed_words_is_refused_and_no_single_word():
    for minor, sexual in itertools.product(WORDS["minor"], WORDS["sexual"]):
        assert is_refused(f"a photo of a {minor}, {sexual}, in the garden"), (minor, sexual)
        assert is_refused(f"{sexual} and a {minor}".upper()), (minor, sexual)
    for word in WORDS["minor"] + WORDS["sexual"]:
        assert not is_refused(f"a picture of a {word} in the garden"), word
    for word in WORDS["both"]:
        assert is_refused(f"a picture, {word}"), word


@pytest.mark.parametrize(
    "trick",
    [
        str.upper,
        str.title,
        lambda w: " ".join(w),
        lambda w: ".".join(w),
        lambda w: "-".join(w),
        lambda w: f"{w[:2]} {w[2:]}",
        lambda w: w.replace("i", "1").replace("e", "3").replace("a", "@").replace("o", "0").replace("s", "$"),
        lambda w: w.replace("e", "é").replace("i", "ï"),
        lambda w: "".join(chr(ord(c) + 0xFEE0) for c in w),
        lambda w: "\u200b".join(w),
        lambda w: (
            w.replace("a", "\u0430").replace("e", "\u0435").replace("o", "\u043e").replace("c", "\u0441")
        ),  # Cyrillic
        lambda w: "".join(c * 3 for c in w),
        lambda w: w + "s",
        lambda w: f"#{w}",
        lambda w: f"({w}:1.3)",
    ],
)
def test_disguised_spellings_are_refused(trick):
    for minor, sexual in itertools.product(("child", "toddler", "schoolgirl"), ("nude", "naked", "topless")):
        assert is_refused(f"a picture of a {trick(minor)} who is {trick(sexual)}"), (trick(minor), trick(sexual))
    assert is_refused(SEXUAL + MINOR)
    assert is_refused(f"#{MINOR}{SEXUAL}, masterpiece")


@pytest.mark.parametrize(
    "age",
    [
        "7 year old",
        "7-year-old",
        "aged 12",
        "age: 9",
        "15yo",
        "15 y/o",
        "under 18",
        "seventeen years old",
        "12 yrs old",
        "ages 8 to 12",
        "under 16, him",
    ],
)
def test_ages_below_18_count_as_minors(age):
    assert is_refused(f"a {SEXUAL} person, {age}")


@pytest.mark.parametrize(
    "prompt",
    [
        "a child's bedroom, nude paint colour",
        "children playing in the snow",
        "1girl, nude, masterpiece",
        "a nude by Titian",
        "a naked mole rat and a child",
        "a sensual melody in a minor key",
        "mother breast feeding her baby",
        "a 10 year old whisky, erotic novel",
        "a nineteen year old woman, nude",
        "aged 30, topless",
        "nude, under 18 degrees",
        "Sussex kids",
        "teenagers of Essex",
        "a middle school in Middlesex",
        "unisex kids clothing",
        "kids looking through a sextant",
        "a child and the naked eye",
        "",
        "a kid looking at a pedometer",
        "a nude, oil on canvas, under 15 cm",
        "young woman in lingerie",
        "a student, sexy",
        "a photo of a weapon",
        "a kid rapping on a stage",
        "a nude, under 10 mm",
        "basset hound, Scunthorpe, cocktail",
        "12 nudes in a row",
        "7 years of erotica",
        "violence, sexual, nudity, weapons, child abuse, brutality, cruelty",
    ],
)
def test_harmless_prompts_pass(prompt):
    assert not is_refused(prompt)


def test_the_message_does_not_repeat_the_prompt():
    with pytest.raises(ContentPolicyError, match=r"^refused: a prompt \(number 2\)") as error:
        check_prompts(["a cat", f"a {SEXUAL} {MINOR}"])
    assert isinstance(error.value, EffaceError)
    assert SEXUAL not in str(error.value)
    assert MINOR not in str(error.value)


@pytest.mark.parametrize("field", ["prompts", "synonyms", "retain_prompts", "templates"])
def test_concepts_are_checked_in_every_field(field):
    text = f"a {SEXUAL} {MINOR}"
    given = {field: [f"{text} {{}}"] if field == "templates" else [text]}
    with pytest.raises(ContentPolicyError, match=field):
        Concept("gun", **given)
    for fields in ({"name": text}, {"name": "gun", "anchor": text}):
        with pytest.raises(ContentPolicyError):
            Concept(**fields)
    with pytest.raises(ContentPolicyError, match="template with one of its words"):
        Concept(SEXUAL, templates=(f"a {MINOR}, {{}}",))


def test_children_may_be_in_the_retain_prompts_of_nudity():
    concept = Concept("nudity", synonyms=("nude", "naked"), retain_prompts=("children playing", "a baby in the snow"))
    assert Concept.from_yaml(concept.to_yaml()) == concept
