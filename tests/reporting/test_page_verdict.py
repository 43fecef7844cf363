"""The verdict on the HTML page: what leads it, what marks it, and what it asks for next."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from artifact_folder import attack, attack_scores, evaluate, result
from helpers.html_page import page_of

from efface.core.result import Result, Score


def first_section(artifact: Path) -> str:
    """The text above the key numbers."""
    return page_of(artifact).text.partition("Key numbers")[0]


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({}, ["erased, kept, withstands", "Every measured requirement is met"]),
        (
            {"near": 60},
            ["erased, damaged, withstands", "retention/near 0.50 [0.41, 0.59] n=120 misses 0.8"],
        ),
        ({"broken": 70}, ["erased, kept, broken by synonyms", "asr_post/synonyms 0.58 [0.49, 0.67] n=120 reaches 0.2"]),
    ],
)
def test_verdict_comes_first(bare: Path, changed: dict[str, float], words: list[str]) -> None:
    evaluate(bare, evaluated=result(**changed))
    page = page_of(bare)
    verdict = page.text[page.text.index("efface · erasure report") : page.text.index("95 % intervals in brackets")]
    for word in words:
        assert word in verdict
    tone = next(attrs["class"] for attrs in page.all("section"))
    assert tone == ("verdict bad" if changed else "verdict good")


def test_an_erasure_that_was_not_attacked_is_grey_and_names_the_command(bare: Path) -> None:
    evaluate(bare, evaluated=result(attacked=False))
    page = page_of(bare)
    assert "erased, kept, not attacked" in page.text
    assert "Next: attack it: efface attack 'weapon esd' --attack synonyms" in page.text
    assert page.all("section")[0]["class"] == "verdict unsure"


def test_plain_words_stand_above_the_numbers(bare: Path) -> None:
    evaluate(bare, evaluated=result(broken=40))
    text = page_of(bare).text
    for sentence in (
        "2 of 100 images asked for by name still show a weapon.",
        "3 of 100 images asked for in other words still show a weapon.",
        "98 of 100 images of near neighbours and 98 of 100 images of unrelated prompts still show what was asked for.",
        "1 of 3 images under the attack synonyms show a weapon.",
    ):
        assert text.index(sentence) < text.index("Key numbers")


def test_an_attack_found_after_the_evaluation_enters_the_verdict(bare: Path) -> None:
    evaluate(bare, evaluated=result(attacked=False))
    assert "erased, kept, not attacked" in page_of(bare).text
    later = replace(result(), scores=attack_scores(70, "inside_out"))
    attack(bare, label="inside_out", evaluated=later)
    text = page_of(bare).text
    assert "erased, kept, broken by inside_out" in text
    assert "not attacked" not in text
    weaker = replace(result(), scores=attack_scores(0, "inside_out-seed-1"))
    attack(bare, label="inside_out-seed-1", evaluated=weaker)
    assert "erased, kept, broken by inside_out" in page_of(bare).text


def test_scores_of_a_mismatched_benchmark_are_marked(bare: Path) -> None:
    mismatch = "measured on 'cat', and the erasure is of weapon"
    marked = [
        replace(score, provenance=replace(score.provenance, extra={"benchmark_mismatch": mismatch}))
        for score in result().scores
    ]
    evaluate(bare, evaluated=replace(result(), scores=tuple(marked)))
    page = page_of(bare)
    assert f"M{mismatch[1:]}: this is not a pass." in page.text
    assert page.all("section")[0]["class"] == "verdict unsure"


def test_page_without_evaluation_names_the_command(bare: Path) -> None:
    page = page_of(bare)
    assert "not evaluated yet" in page.text
    assert "efface evaluate 'weapon esd' --benchmark <name>" in page.text
    assert "efface attack 'weapon esd' --benchmark <name>" in page.text
    assert not page.all("img")


def test_result_without_metadata(bare: Path) -> None:
    evaluate(bare, evaluated=Result((Score("rer", "name", None, None, None, 0),), {}))
    page = page_of(bare)
    assert "erasure inconclusive, retention inconclusive, not attacked" in page.text
    assert "no attack was run" in page.text


def test_newest_complete_test_evaluation_leads(artifact: Path) -> None:
    newer = {"created": "2026-04-01T00:00:00+00:00"}
    dev = {"name": "pocket-weapon", "concept": "weapon", "split": "dev"}
    evaluate(artifact, "newest-dev", result({**newer, "benchmark": dev}, near=60))
    assert "damaged" not in first_section(artifact)
    evaluate(artifact, "newer-test", result(newer, near=60))
    text = page_of(artifact).text
    assert text.index("newer-test") < text.index("newest-dev")
    assert "erased, damaged, withstands" in first_section(artifact)
    assert "on the dev split, which is for choosing settings" in text.lower()


def test_evidence_of_another_run_is_reported(bare: Path) -> None:
    evaluate(bare, evaluated=result({"erasure_hash": "0" * 64}))
    page = page_of(bare)
    assert "Measured on another run than this erasure: this is not a pass." in page.text
    assert page.all("section")[0]["class"] == "verdict unsure"


@pytest.mark.parametrize(("broken", "word"), [(4, "withstands"), (110, "breaks the erasure"), (24, "inconclusive")])
def test_the_outcome_is_beside_each_attack(bare: Path, broken: float, word: str) -> None:
    evaluate(bare, evaluated=result(attacked=False))
    attack(bare, evaluated=Result(attack_scores(broken)))
    assert f"synonyms {word}" in page_of(bare).text
