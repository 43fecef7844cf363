"""The leaderboard: its fixed reference points, the Pareto front, and its pages."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import pytest
from helpers.cli import call, check_refused

from efface.benchmarks.result_store import ResultKey, ResultStore
from efface.core.errors import EffaceError
from efface.core.result import Result, Score
from efface.reporting.leaderboard import ALL, ATTACKS_OF_KIND, KEPT, Entry, entries, pareto_front, read_results
from efface.reporting.leaderboard_board import boards
from efface.reporting.leaderboard_site import MARKER, write_site

IMAGE_ATTACKS = ATTACKS_OF_KIND["image models"]


def result_of(
    rer: float, retention: float, attack_rate: float | None, attacks: tuple[str, ...] = IMAGE_ATTACKS
) -> Result:
    values = {("rer", "name"): rer, ("rer", "domain"): rer, **dict.fromkeys(KEPT, retention)}
    values |= {} if attack_rate is None else {("asr_post", attack): attack_rate for attack in attacks}
    return Result(
        tuple(Score(*key, value, value, value, 100) for key, value in values.items()),
        {"cost": {"seconds": 2.0}, "erasure_hash": "own"},
    )


def average(*results: Result) -> Entry:
    by_key = {ResultKey(f"b{i}", 0): result for i, result in enumerate(results)}
    return next(row for row in entries({"m": by_key}) if row.benchmark == ALL)


def test_untouched_and_destroyed_models_score_0_and_a_perfect_erasure_1() -> None:
    assert average(result_of(0.0, 1.0, 1.0)).score == 0
    assert average(result_of(1.0, 0.0, 0.0)).score == 0
    assert average(result_of(1.0, 1.0, 0.0)).score == 1
    assert average(result_of(-0.2, 1.3, 0.5)).erased == 0


def test_a_score_needs_every_attack_on_every_benchmark() -> None:
    whole = result_of(1.0, 1.0, 0.1)
    assert average(whole, result_of(1.0, 1.0, None)).score is None
    few = average(whole, result_of(1.0, 1.0, 0.3, ("synonyms",)))
    assert few.score is None
    assert few.robust == pytest.approx(0.8)
    assert few.attacks["synonyms"] == pytest.approx(0.2)


def test_scores_do_not_depend_on_other_methods() -> None:
    good, bad = ({ResultKey("b", 0): result_of(*numbers)} for numbers in ((0.9, 0.9, 0.1), (0.5, 0.5, 0.5)))
    rows = entries({"bad": bad, "good": good})
    assert [row.method for row in rows if row.benchmark == ALL] == ["good", "bad"]
    assert entries({"bad": bad})[0] == next(row for row in rows if row.method == "bad")


def test_kinds_of_models_have_boards_of_their_own() -> None:
    image, plain = result_of(0.9, 0.9, 0.1), result_of(0.5, 0.9, 0.1, ("relearning_images",))
    classifier = Result((*plain.scores, Score("accuracy", "name", 0.5, 0.4, 0.6, 100)), plain.metadata)
    results = {"uce": {ResultKey("b", 0): image}, "famr": {ResultKey("c", 0): classifier}}
    first, second = boards(entries(results), results)
    assert (first.kind, {row.method for row in first.rows}) == ("image models", {"uce"})
    assert (second.kind, {row.method for row in second.rows}) == ("image classifiers", {"famr"})
    assert "relearning_images" not in first.attacks
    assert second.attacks == ["relearning_images"]
    assert second.benchmarks == [ALL, "c"]


def test_attacks_beyond_those_of_a_score_do_not_count() -> None:
    further = Score("asr_post", "inverted_latents", 1.0, 1.0, 1.0, 32)
    plain = result_of(1.0, 1.0, 0.5)
    attacked = average(Result((*plain.scores, further)))
    assert (attacked.robust, attacked.score) == (0.5, average(plain).score)
    assert attacked.attacks["inverted_latents"] == 1.0
    assert attacked.num_scored == len(IMAGE_ATTACKS)


def test_the_benchmark_on_which_most_methods_have_a_score_is_shown() -> None:
    whole, part = result_of(0.9, 0.9, 0.1), result_of(0.9, 0.9, None)
    results = {
        "uce": {ResultKey("a", 0): whole, ResultKey("b", 0): part},
        "esd": {ResultKey("a", 0): result_of(0.0, 0.9, 0.1), ResultKey("b", 0): whole},
    }
    (board,) = boards(entries(results), results)
    assert board.shown == "a"
    assert [(row.method, row.benchmark) for row in board.rows[:2]] == [("uce", "a"), ("esd", "a")]
    (average_first,) = boards(entries({"uce": {ResultKey("a", 0): whole}}), {"uce": {ResultKey("a", 0): whole}})
    assert average_first.shown == ALL


def test_of_benchmarks_with_equally_many_scores_that_with_most_attacks_is_shown() -> None:
    plain = result_of(0.9, 0.9, 0.1)
    further = Result((*plain.scores, Score("asr_post", "inverted_latents", 1.0, 1.0, 1.0, 32)))
    without_average = {ResultKey("a", 0): plain, ResultKey("c", 0): result_of(0.9, 0.9, None)}
    results = {
        "uce": {**without_average, ResultKey("b", 0): further},
        "esd": {**without_average, ResultKey("b", 0): plain},
    }
    (board,) = boards(entries(results), results)
    assert board.shown == "b"


def test_labels_of_close_points_do_not_cover_each_other() -> None:
    values = {"a": (0.9, 0.98), "b": (0.92, 0.97), "c": (0.94, 0.96), "d": (0.99, 0.5)}
    results = {name: {ResultKey("x", 0): result_of(erased, kept, 0.1)} for name, (erased, kept) in values.items()}
    (board,) = boards(entries(results), results)
    points = {point.name: point for point in board.charts[0][2]}
    places = [points[name].y + 5 * points[name].lines_down for name in "abc"]
    assert all(b - a >= 5 for a, b in pairwise(sorted(places)))
    assert (points["a"].lines_down, points["d"].lines_down) == (0, 0)


def test_pareto_front() -> None:
    assert pareto_front([(0.0, 1.0), (0.5, 0.5), (0.4, 0.5), (1.0, 0.0), (0.5, 0.5)]) == [0, 1, 3, 4]


@pytest.fixture
def store(tmp_path: Path) -> Path:
    made = ResultStore(tmp_path / "uce.json")
    made.add(ResultKey("pocket-weapon", 0), result_of(0.9, 0.9, 0.1))
    made.add(ResultKey("pocket-weapon", 0, variant="<b>"), result_of(0.2, 0.9, 0.1))
    made.save()
    return made.path


def test_results_of_one_erasure_are_joined_and_of_another_left_out_with_a_warning(tmp_path: Path) -> None:
    evaluated, attacked = result_of(0.9, 0.9, None), result_of(0.9, 0.9, 0.4)
    attacks = Result(tuple(score for score in attacked.scores if score.metric == "asr_post"), attacked.metadata)
    other = Result(attacks.scores, {**attacks.metadata, "erasure_hash": "other"})
    for name, result in (("first", evaluated), ("second", attacks), ("third", other)):
        store = ResultStore(tmp_path / name / "uce.json")
        store.path.parent.mkdir()
        store.add(ResultKey("pocket-weapon", 0), result)
        store.save()
    (joined,) = read_results([tmp_path / "first", tmp_path / "second"])["uce"].values()
    assert joined.score("rer", "name")
    assert joined.attack_scores()
    with pytest.warns(UserWarning, match="left out: uce pocket-weapon/seed-0"):
        (first,) = read_results([tmp_path / "first", tmp_path / "third"])["uce"].values()
    assert not first.attack_scores()


def test_the_site_is_offline_and_escapes_names(store: Path, tmp_path: Path) -> None:
    page = write_site([store], tmp_path / "site", "0.0").read_text()
    assert "default-src 'none'" in page
    assert "http" not in page.replace("http-equiv", "")
    assert "<b>" not in page.replace('<b title="', "").replace("<b></", "")
    assert sorted(path.name for path in (tmp_path / "site" / "methods").iterdir()) == ["uce--b-.html", "uce.html"]
    rows = json.loads((tmp_path / "site" / MARKER).read_text())
    assert {row["method"] for row in rows} == {"uce", "uce-<b>"}
    write_site([store], tmp_path / "site", "0.0")


def test_other_folders_are_not_replaced_and_empty_ones_have_no_results(
    store: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine").mkdir()
    check_refused(call(capfd, "leaderboard", tmp_path / "mine"), "holds no results")
    (tmp_path / "mine" / "notes.txt").write_text("x")
    with pytest.raises(EffaceError, match="holds no leaderboard, so it is not replaced"):
        write_site([store], tmp_path / "mine", "0.0")
    with pytest.raises(EffaceError, match="is given twice"):
        write_site([store, store], tmp_path / "site", "0.0")
