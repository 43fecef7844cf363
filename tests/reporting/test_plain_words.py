"""Key numbers in plain words, and the next step."""

from __future__ import annotations

from dataclasses import replace

import pytest
from artifact_folder import rate, result

from efface.core.concept import Concept
from efface.core.result import Result, Score
from efface.core.verdict import Verdict
from efface.reporting.next_step import next_step
from efface.reporting.plain_words import fraction, plain_words


@pytest.mark.parametrize(
    ("share", "words"),
    [
        (-0.1, "No"), (0.0, "No"), (0.001, "1 of 100"), (0.04, "4 of 100"), (1 / 3, "1 of 3"), (0.66, "2 of 3"),
        (0.5, "1 of 2"), (0.9, "9 of 10"), (0.97, "97 of 100"), (0.999, "99 of 100"), (1.0, "All"), (1.2, "All"),
    ],
)  # fmt: skip
def test_fractions(share: float, words: str) -> None:
    assert fraction(share, 30) == words


@pytest.mark.parametrize(("share", "words"), [(-0.1, "0 of 8"), (0.38, "3 of 8"), (1.2, "8 of 8")])
def test_few_images_are_counted(share: float, words: str) -> None:
    assert fraction(share, 8) == words


def test_sentences_name_the_concept_by_its_kind() -> None:
    measured = Result((Score("rer", "domain", 0.34, 0.25, 0.41, 138), rate("asr_post", "synonyms-limit-4", 60)))
    assert plain_words(measured, Concept("weapon", kind="domain")) == [
        "2 of 3 images asked for in other words still show a weapon.",
        "1 of 2 images under the attack synonyms show a weapon.",
    ]
    assert plain_words(measured, Concept("pointillism", kind="style"))[0].endswith("still have the style pointillism.")
    assert plain_words(measured, Concept("mickey mouse", kind="identity"))[0].endswith("still show mickey mouse.")
    assert plain_words(Result(()), Concept("weapon")) == []


@pytest.mark.parametrize(
    ("findings", "words"),
    [
        (("not erased", "kept", "withstands"), "efface methods"),
        (("erased", "damaged", "withstands"), "--retain-file"),
        (("erased", "kept", "broken by synonyms"), "--method sage"),
        (("inconclusive", "kept", "not attacked"), "measure more images"),
        (("erased", "kept", "not attacked"), "efface attack 'a b' --attack synonyms"),
        (("erased", "kept", "inconclusive"), "too close to its threshold"),
        (("erased", "kept", "withstands"), "efface report 'a b' --open"),
    ],
)
def test_the_next_step_is_a_command_that_cures_the_first_fault(findings: tuple[str, str, str], words: str) -> None:
    assert words in str(next_step(Verdict(*findings), result(), "a b"))  # type: ignore[arg-type]


def test_the_next_step_of_a_limited_attack_is_the_whole_attack() -> None:
    limited = rate("asr_post", "inside_out-limit-4", 0, extra={"limit": 4})
    measured = replace(result(), scores=(*result(attacked=False).scores, limited))
    step = next_step(measured.verdict, measured, "e")
    assert str(step) == "attack with all prompts: efface attack e --attack inside_out"
