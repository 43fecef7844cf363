"""RER, its guards, what is kept, and attacks, on images whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers.fake_detector import CATS, Told, ask, told
from hypothesis import given, settings
from hypothesis import strategies as st

from efface.core.score import DetectorId, Provenance
from efface.core.serialization import json_hash
from efface.core.verdict import Verdict
from efface.metrics.asr import asr_post, asr_pre, seconds_per_success
from efface.metrics.detections import Detections, EvalPrompt, Expected, pairs
from efface.metrics.erasure_retention import abstention_rate, context, rates, rer, retention
from efface.metrics.rate_score import rate_score

CAT, UNSURE, EMPTY, DOG = "cat/snow/photo", "/".join(["cannot tell"] * 3), "nothing/snow/photo", "dog/beach/photo"
Row = tuple[str, str, str]


def scene(seen: str, n: int = 40, group: str = "name", asked: str = CAT) -> list[Row]:
    return [(group, asked, seen)] * n


def test_rer_is_one_minus_the_ratio_of_counts(rng, how):
    before = told(scene(CAT, 30) + scene(EMPTY, 10))
    after = told(scene(CAT, 3) + scene("lion/snow/photo", 3) + scene(EMPTY, 34))
    score = rer(before, after, "name", CATS, rng=rng, provenance=how)
    assert score.value == pytest.approx(1 - 6 / 30), "another class of the domain is a detection, too"
    assert score.low is not None
    assert score.high is not None
    assert score.low < 0.8 < score.high
    assert (score.metric, score.group, score.n, score.detector) == ("rer", "name", 40, DetectorId("told", "1", 0.9))
    assert (score.provenance.prompts, score.provenance.seeds) == (json_hash([CAT]), tuple(range(40)))
    assert (score.provenance.sampler, score.provenance.num_inference_steps) == ("ddim", 20)


def test_rer_is_negative_where_the_concept_became_more_frequent(rng, how):
    before, after = told(scene(CAT, 20) + scene(EMPTY, 20)), told(scene(CAT, 40))
    assert rer(before, after, "name", CATS, rng=rng, provenance=how).value == -1


def test_nothing_there_before_is_no_erasure(rng, how):
    score = rer(told(scene(EMPTY)), told(scene(EMPTY)), "name", CATS, rng=rng, provenance=how)
    assert (score.value, score.low, score.n) == (None, None, 40)


def test_intervals_are_clustered_by_prompt(rng, how):
    table, widths = told([("name", f"{CAT}{i % 40}", CAT) for i in range(400)]), []
    within, between = [i // 40 % 2 == 0 for i in range(400)], [i % 40 < 20 for i in range(400)]
    for hits in (within, between):
        score = rate_score("asr", "name", hits, table.rows("name"), rng, table.detector("object"), how)
        assert score.value == 0.5
        assert score.low is not None
        assert score.high is not None
        widths.append(score.high - score.low)
    assert widths[1] > 2 * widths[0]


def test_no_images_no_value(rng, how):
    none, some = told([]), told(scene(CAT))
    for before, after in [(none, none), (some, none), (none, some)]:
        scores = rates(before, after, CATS, rng=rng, provenance=how)
        assert {s.metric for s in scores} >= {"rer", "abstention_rate", "retention", "retention_background"}
        for score in scores:
            if not (score.metric.startswith("abstention_rate") and score.n):
                assert (score.value, score.low, score.high, score.n) == (None, None, None, 0), score
        assert not Verdict.of(scores).passed
    for attack in (asr_pre, asr_post):
        score = attack(none, "synonyms", CATS, rng=rng, provenance=how)
        assert (score.value, score.low, score.n) == (None, None, 0)


def test_the_rest_of_the_prompt_must_survive_whole(rng, how):
    before = told(scene(CAT, 40))
    after = told(scene(EMPTY, 20) + scene("nothing/beach/photo", 10) + scene("cannot tell/snow/sketch", 10))
    assert context(before, after, CATS, rng=rng, provenance=how, of=["name"]).value == 0.5
    by_name = {s.metric: s for s in rates(before, after, CATS, rng=rng, provenance=how) if s.group == "context"}
    assert by_name["retention"].detector == DetectorId("told", "1", None)
    assert by_name["retention"].provenance.extra["thresholds"] == {"background": 0.9, "style": 0.9}
    assert (by_name["retention_background"].value, by_name["retention_style"].value) == (0.75, 0.75)
    assert abstention_rate(after, "name", CATS, rng=rng, provenance=how).value == 0.25


def test_what_the_prompt_leaves_open_is_not_scored(rng, how):
    rows = (
        scene(CAT, 10)
        + scene("cat/desert/photo", 30, asked="cat/-/-")
        + scene("cat/snow/sketch", 20, asked="cat/snow/-")
    )
    before, after = told(rows), told([(g, a, s.replace("snow", "beach")) for g, a, s in rows])
    score = context(before, after, CATS, rng=rng, provenance=how)
    assert (score.n, score.value) == (30, 0.0)
    assert context(told(rows[10:40]), told(rows[10:40]), CATS, rng=rng, provenance=how).n == 0


def test_kept_is_relative_to_what_the_base_could_do(rng, how):
    before = told(scene(DOG, 20, "near", DOG) + scene(CAT, 20, "near", DOG))
    after = told(scene(DOG, 15, "near", DOG) + scene(CAT, 25, "near", DOG))
    score = retention(before, after, "near", ["object"], rng=rng, provenance=how)
    assert (score.metric, score.group, score.value, score.n) == ("retention", "near", 0.75, 40)


def test_a_style_is_a_target_like_any_other(rng, how):
    target = Expected("style", ["sketch"])
    before = told(scene("cat/snow/sketch", asked="cat/snow/sketch"))
    after = told(
        scene("cat/snow/photo", 30, asked="cat/snow/sketch") + scene("dog/snow/photo", 10, asked="cat/snow/sketch")
    )
    assert rer(before, after, "name", target, rng=rng, provenance=how).value == 1
    assert context(before, after, target, rng=rng, provenance=how).value == 0.75


def test_several_answers_may_do(rng, how):
    asked = [EvalPrompt("an animal", i, "near", {"object": ("dog", "horse")}) for i in range(4)]
    detector = Told()
    table = Detections(detector)
    detector.next = [f"{animal}/snow/photo" for animal in ("dog", "horse", "owl", "dog")]
    table.update(torch.zeros(4, 3, 1, 1), asked)
    assert [row.matches_expected(["object"]) for row in table.rows("near")] == [True, True, False, True]


def test_pairs_refuse_what_does_not_compare():
    one = told(scene(CAT, 3))
    with pytest.raises(ValueError, match="have a partner"):
        pairs(one, told(scene(CAT, 2)), ["name"])
    with pytest.raises(ValueError, match="have a partner"):
        pairs(told(scene(CAT, 2)), one, ["name"])
    for other in (Told(version="2"), Told(object=0.5)):
        with pytest.raises(ValueError, match="different"):
            pairs(one, told(scene(CAT, 3), other), ["name"])
    detector = Told()
    table = Detections(detector)
    detector.next = [CAT] * 3
    table.update(torch.zeros(3, 3, 1, 1), [EvalPrompt(CAT, i, "name", {"object": "dog"}) for i in range(3)])
    with pytest.raises(ValueError, match="asked to show"):
        pairs(one, table, ["name"])


def test_pairs_go_by_prompt_and_seed_not_by_order():
    detector = Told()
    table = Detections(detector)
    for i in (2, 0, 1):
        detector.next = [f"cat{i}/snow/photo"]
        table.update(torch.zeros(1, 3, 1, 1), [ask(CAT, "name", i)])
    assert [b.judgement["object"] for _, b in pairs(told(scene(CAT, 3)), table, ["name"])] == ["cat0", "cat1", "cat2"]


def test_a_refused_batch_leaves_nothing():
    table = told(scene(CAT, 2))
    for asked, message in [
        ([ask(CAT, "name", 1)], "twice"),
        ([ask(CAT, "new", 1)] * 2, "twice"),
        ([EvalPrompt("x", 5, "name", {"colour": "red"})], "no head"),
        ([], "1 images for 0"),
    ]:
        with pytest.raises(ValueError, match=message):
            table.update(torch.zeros(len(asked) or 1, 3, 1, 1), asked)
    assert len(table) == 2
    for wrong in ("cat", []):
        with pytest.raises(ValueError, match="collection of classes"):
            Expected("object", wrong)
    with pytest.raises(ValueError, match="no head"):
        table.detector("colour")


def test_attacks_count_what_broke_without_them(rng, how):
    plain = told(scene(CAT, 4, "synonyms") + scene(EMPTY, 36, "synonyms"))
    attacked = told(scene(EMPTY, 10, "synonyms") + scene(CAT, 10, "synonyms") + scene(EMPTY, 20, "synonyms"))
    budget = Provenance(attack_steps=40, attack_seconds=8.5)
    pre = asr_pre(plain, "synonyms", CATS, rng=rng, provenance=budget)
    post = asr_post(attacked, "synonyms", CATS, rng=rng, provenance=budget, plain=plain)
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
            asr_post(plain, "synonyms", Expected("object", ["dog"]), rng=rng, provenance=budget), 40
        ).value
        is None
    )
    with pytest.raises(ValueError, match="have a partner"):
        asr_post(attacked, "synonyms", CATS, rng=rng, provenance=how, plain=told(scene(CAT, 4, "synonyms")))


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.booleans(), st.booleans()), min_size=1, max_size=60))
def test_scores_lie_within_their_bounds(rows):
    how, rng = Provenance(), np.random.default_rng(0)
    asked = [("name", f"cat/snow/photo{p}") for p, _, _ in rows]
    before, after = (
        told([(g, a, CAT if row[side] else EMPTY) for (g, a), row in zip(asked, rows, strict=True)]) for side in (1, 2)
    )
    old, new = sum(row[1] for row in rows), sum(row[2] for row in rows)
    score = rer(before, after, "name", CATS, rng=rng, provenance=how)
    assert score.n == len(rows)
    if score.value is not None:
        assert score.value == pytest.approx(1 - new / old)
        assert score.low is not None
        assert score.high is not None
        assert score.low < score.high or new
    broken = asr_pre(after, "name", CATS, rng=rng, provenance=how)
    assert broken.value == new / len(rows)
    assert broken.low is not None
    assert broken.high is not None
    assert 0 <= broken.low <= broken.value <= broken.high <= 1
    assert broken.low < broken.high
