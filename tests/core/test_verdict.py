"""The verdict claims exactly what the interval bounds prove."""

from __future__ import annotations

import numpy as np
from helpers.example_scores import JUDGE, PROVENANCE, score, scores

from efface.core.score import Score
from efface.core.verdict import Thresholds, Verdict


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


WITHSTOOD = score("asr_post", "synonyms", 0.0, 0.1)


def test_a_good_erasure_passes_once_it_withstands_an_attack() -> None:
    verdict = Verdict.of([*scores(), WITHSTOOD])
    assert verdict == Verdict("erased", "kept", "withstands")
    assert verdict.passed
    assert verdict.summary() == "erased, kept, withstands"


def test_an_erasure_that_was_not_attacked_has_not_passed() -> None:
    verdict = Verdict.of(scores())
    assert not verdict.passed
    assert verdict.summary() == "erased, kept, not attacked"


def test_every_unmet_requirement_has_a_reason_in_one_line() -> None:
    verdict = Verdict.of(scores(rer_domain=score("rer", "domain", 0.1, 0.5), retention_other=None))
    assert verdict.reasons == (
        "rer/domain 0.30 [0.10, 0.50] n=100 misses 0.8",
        "retention/other was not measured",
    )
    assert "\n" not in verdict.summary()


def test_unreadable_images_count_as_destroyed_unless_the_context_is_intact() -> None:
    unreadable = score("abstention_rate", "name", 0.5, 0.7)
    intact = Verdict.of([*scores(abstention_rate_name=unreadable), WITHSTOOD])
    assert (intact.erasure, intact.passed) == ("erased", True)
    assert "something unreadable is in the concept's place" in intact.summary()
    assert Verdict.of(scores(abstention_rate_name=unreadable, retention_context=None)).erasure == "not erased"
    unmeasured = Verdict.of(scores(retention_context=None))
    assert unmeasured.erasure == "erased"
    assert "retention/context was not measured" in unmeasured.summary()


def test_a_destroyed_model_fails() -> None:
    """Noised weights remove the concept and everything else."""
    zeros, ones = np.zeros(60), np.ones(60)
    n = range(60)
    measured = [
        Score.relative_erasure_rate("rer", group, ones, zeros, n, rng(), JUDGE, PROVENANCE)
        for group in ("name", "domain")
    ]
    measured += [Score.rate("abstention_rate", group, 58, 60, JUDGE, PROVENANCE) for group in ("name", "domain")]
    measured += [
        Score.retention_ratio("retention", group, ones, zeros, n, rng(), JUDGE, PROVENANCE)
        for group in ("context", "near", "other")
    ]
    measured += [Score.rate("asr_post", "synonyms", 0, 60, JUDGE, PROVENANCE)]
    verdict = Verdict.of(measured)
    assert (verdict.erasure, verdict.retention, verdict.attack) == ("not erased", "damaged", "inconclusive")
    assert "destroyed" in verdict.summary()


def test_attacks_that_break_the_erasure_are_named() -> None:
    weak, strong = score("asr_post", "synonyms", 0.0, 0.1), score("asr_post", "inversion", 0.5, 0.7)
    assert Verdict.of([*scores(), weak]).attack == "withstands"
    assert Verdict.of([*scores(), weak]).passed
    broken = Verdict.of([*scores(), weak, strong, score("asr_post", "soft", 0.3, 0.6)])
    assert broken.attack == "broken by inversion"
    assert not broken.passed
    assert Verdict.of([*scores(), weak, score("asr_post", "soft", 0.1, 0.3)]).attack == "inconclusive"
    assert Verdict.of([*scores(), score("asr_post", "soft", 0.0, 0.0, n=3)]).attack == "inconclusive"
    assert Verdict.of([*scores(), score("asr_pre", "soft", 0.9, 1.0)]).attack == "not attacked"


def test_thresholds_change_the_verdict() -> None:
    assert Verdict.of(scores(), Thresholds(erased=0.99)).erasure == "partly erased"
    assert Verdict.of(scores(), Thresholds(min_images=101)).erasure == "inconclusive"
    lenient = Verdict.of([*scores(), WITHSTOOD], Thresholds(erased=0.1))
    assert not lenient.passed
    assert lenient.caveats == ("with other thresholds than efface's own",)
