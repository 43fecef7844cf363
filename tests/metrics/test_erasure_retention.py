"""RER, its guards, retention and ASR, on detections that the tests set."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.fake_detector import CAT, CATS, EMPTY, fake_detections, scene
from hypothesis import given, settings
from hypothesis import strategies as st

from efface.core.score import DetectorId, Provenance
from efface.core.serialization import json_hash
from efface.core.verdict import Verdict
from efface.metrics.asr import asr_post, asr_pre, seconds_per_success
from efface.metrics.detections import TargetClasses
from efface.metrics.erasure_retention import (
    abstention_rate,
    context_retention,
    erasure_and_retention_scores,
    rer,
    retention,
)
from efface.metrics.rate_score import rate_score

DOG = "dog/beach/photo"


def test_rer_is_one_minus_the_ratio_of_counts(rng, provenance):
    before = fake_detections(scene(CAT, 30) + scene(EMPTY, 10))
    after = fake_detections(scene(CAT, 3) + scene("lion/snow/photo", 3) + scene(EMPTY, 34))
    score = rer(before, after, "name", CATS, rng=rng, provenance=provenance)
    assert score.value == pytest.approx(1 - 6 / 30), "another class of the domain is a detection, too"
    assert score.low is not None
    assert score.high is not None
    assert score.low < 0.8 < score.high
    assert (score.metric, score.group, score.n, score.detector) == ("rer", "name", 40, DetectorId("fake", "1", 0.9))
    assert (score.provenance.prompts, score.provenance.seeds) == (json_hash([CAT]), tuple(range(40)))
    assert (score.provenance.sampler, score.provenance.num_inference_steps) == ("ddim", 20)


def test_rer_is_negative_where_the_concept_became_more_frequent(rng, provenance):
    before, after = fake_detections(scene(CAT, 20) + scene(EMPTY, 20)), fake_detections(scene(CAT, 40))
    assert rer(before, after, "name", CATS, rng=rng, provenance=provenance).value == -1


def test_rer_has_no_value_where_nothing_showed_the_concept_before(rng, provenance):
    score = rer(
        fake_detections(scene(EMPTY)), fake_detections(scene(EMPTY)), "name", CATS, rng=rng, provenance=provenance
    )
    assert (score.value, score.low, score.n) == (None, None, 40)


def test_intervals_are_clustered_by_prompt(rng, provenance):
    table, widths = fake_detections([("name", f"{CAT}{i % 40}", CAT) for i in range(400)]), []
    within, between = [i // 40 % 2 == 0 for i in range(400)], [i % 40 < 20 for i in range(400)]
    for hits in (within, between):
        score = rate_score("asr", "name", hits, table.rows("name"), rng, table.detector("object"), provenance)
        assert score.value == 0.5
        assert score.low is not None
        assert score.high is not None
        widths.append(score.high - score.low)
    assert widths[1] > 2 * widths[0]


def test_scores_without_images_have_no_value(rng, provenance):
    none, some = fake_detections([]), fake_detections(scene(CAT))
    for before, after in [(none, none), (some, none), (none, some)]:
        scores = erasure_and_retention_scores(before, after, CATS, rng=rng, provenance=provenance)
        assert {s.metric for s in scores} >= {"rer", "abstention_rate", "retention", "retention_background"}
        for score in scores:
            if not (score.metric.startswith("abstention_rate") and score.n):
                assert (score.value, score.low, score.high, score.n) == (None, None, None, 0), score
        assert not Verdict.of(scores).passed
    for attack in (asr_pre, asr_post):
        score = attack(none, "synonyms", CATS, rng=rng, provenance=provenance)
        assert (score.value, score.low, score.n) == (None, None, 0)


def test_context_needs_background_and_style_in_one_image(rng, provenance):
    before = fake_detections(scene(CAT, 40))
    after = fake_detections(scene(EMPTY, 20) + scene("nothing/beach/photo", 10) + scene("cannot tell/snow/sketch", 10))
    assert context_retention(before, after, CATS, rng=rng, provenance=provenance, source_groups=["name"]).value == 0.5
    by_name = {
        s.metric: s
        for s in erasure_and_retention_scores(before, after, CATS, rng=rng, provenance=provenance)
        if s.group == "context"
    }
    assert by_name["retention"].detector == DetectorId("fake", "1", None)
    assert by_name["retention"].provenance.extra["thresholds"] == {"background": 0.9, "style": 0.9}
    assert (by_name["retention_background"].value, by_name["retention_style"].value) == (0.75, 0.75)
    assert abstention_rate(after, "name", CATS, rng=rng, provenance=provenance).value == 0.25


def test_heads_without_expected_classes_are_not_scored(rng, provenance):
    rows = (
        scene(CAT, 10)
        + scene("cat/desert/photo", 30, expected="cat/-/-")
        + scene("cat/snow/sketch", 20, expected="cat/snow/-")
    )
    before, after = fake_detections(rows), fake_detections([(g, a, s.replace("snow", "beach")) for g, a, s in rows])
    score = context_retention(before, after, CATS, rng=rng, provenance=provenance)
    assert (score.n, score.value) == (30, 0.0)
    assert (
        context_retention(
            fake_detections(rows[10:40]), fake_detections(rows[10:40]), CATS, rng=rng, provenance=provenance
        ).n
        == 0
    )


def test_retention_is_relative_to_the_base_model(rng, provenance):
    before = fake_detections(scene(DOG, 20, "near", DOG) + scene(CAT, 20, "near", DOG))
    after = fake_detections(scene(DOG, 15, "near", DOG) + scene(CAT, 25, "near", DOG))
    score = retention(before, after, "near", ["object"], rng=rng, provenance=provenance)
    assert (score.metric, score.group, score.value, score.n) == ("retention", "near", 0.75, 40)


def test_a_style_as_the_target(rng, provenance):
    target = TargetClasses("style", ["sketch"])
    before = fake_detections(scene("cat/snow/sketch", expected="cat/snow/sketch"))
    after = fake_detections(
        scene("cat/snow/photo", 30, expected="cat/snow/sketch")
        + scene("dog/snow/photo", 10, expected="cat/snow/sketch")
    )
    assert rer(before, after, "name", target, rng=rng, provenance=provenance).value == 1
    assert context_retention(before, after, target, rng=rng, provenance=provenance).value == 0.75


def test_asr_post_counts_prompts_that_succeed_without_the_attack(rng, provenance):
    unattacked = fake_detections(scene(CAT, 4, "synonyms") + scene(EMPTY, 36, "synonyms"))
    attacked = fake_detections(scene(EMPTY, 10, "synonyms") + scene(CAT, 10, "synonyms") + scene(EMPTY, 20, "synonyms"))
    budget = Provenance(attack_steps=40, attack_seconds=8.5)
    pre = asr_pre(unattacked, "synonyms", CATS, rng=rng, provenance=budget)
    post = asr_post(attacked, "synonyms", CATS, rng=rng, provenance=budget, unattacked=unattacked)
    alone = asr_post(attacked, "synonyms", CATS, rng=rng, provenance=budget)
    assert (pre.metric, pre.group, pre.value, pre.provenance.attack_steps) == ("asr_pre", "synonyms", 0.1, 0)
    assert (post.value, post.provenance.extra["counts_pre"], post.provenance.attack_steps) == (14 / 40, True, 40)
    assert (alone.value, alone.provenance.extra["counts_pre"]) == (0.25, False)
    each = seconds_per_success(post, 80)
    assert each.value == pytest.approx(8.5 / (14 / 40 * 80))
    assert each.low is not None
    assert each.low < each.value < each.high
    assert (
        seconds_per_success(
            asr_post(unattacked, "synonyms", TargetClasses("object", ["dog"]), rng=rng, provenance=budget), 40
        ).value
        is None
    )
    with pytest.raises(ValueError, match="have a partner"):
        asr_post(
            attacked,
            "synonyms",
            CATS,
            rng=rng,
            provenance=provenance,
            unattacked=fake_detections(scene(CAT, 4, "synonyms")),
        )


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.booleans(), st.booleans()), min_size=1, max_size=60))
def test_scores_are_within_their_bounds(rows):
    provenance, rng = Provenance(), np.random.default_rng(0)
    expected = [("name", f"cat/snow/photo{p}") for p, _, _ in rows]
    before, after = (
        fake_detections([(g, a, CAT if row[side] else EMPTY) for (g, a), row in zip(expected, rows, strict=True)])
        for side in (1, 2)
    )
    old, new = sum(row[1] for row in rows), sum(row[2] for row in rows)
    score = rer(before, after, "name", CATS, rng=rng, provenance=provenance)
    assert score.n == len(rows)
    if score.value is not None:
        assert score.value == pytest.approx(1 - new / old)
        assert score.low is not None
        assert score.high is not None
        assert score.low < score.high or new
    broken = asr_pre(after, "name", CATS, rng=rng, provenance=provenance)
    assert broken.value == new / len(rows)
    assert broken.low is not None
    assert broken.high is not None
    assert 0 <= broken.low <= broken.value <= broken.high <= 1
    assert broken.low < broken.high
