"""Parts of the page: requirements, axes, curves, images and formatting."""

from __future__ import annotations

import base64
import io
from itertools import pairwise
from pathlib import Path

import pytest
from artifact_folder import rate, result
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from efface.core.concept import Concept
from efface.core.result import Result, Score
from efface.core.spec import RunSpec
from efface.reporting.charts import Axis, Tick, criteria_chart, interference_chart
from efface.reporting.commands import erase_commands
from efface.reporting.criteria import verdict_criteria
from efface.reporting.data_uris import data_uri
from efface.reporting.evidence import ImagePair
from efface.reporting.formatting import format_duration, format_number, format_range, format_size, format_value, shorten
from efface.reporting.image_pairs import concept_head
from efface.reporting.loss_curves import MAX_POINTS, loss_panels


@given(near=st.integers(0, 120), broken=st.integers(0, 120))
def test_status_agrees_with_the_verdict(near: int, broken: int) -> None:
    evaluated = result(near=near, broken=broken)
    status = {(c.metric, c.group): c.status for c in verdict_criteria(evaluated)}
    assert status["rer", "name"] == status["abstention_rate", "name"] == status["retention", "context"] == "met"
    expected = {"met": "kept", "missed": "damaged", "open": "inconclusive"}
    assert evaluated.verdict.retention == expected[status["retention", "near"]]
    expected = {"met": "withstands", "missed": "broken by synonyms", "open": "inconclusive"}
    assert evaluated.verdict.attack == expected[status["asr_post", "synonyms"]]


def test_few_images_leave_a_requirement_open() -> None:
    (name, *_) = verdict_criteria(Result((rate("rer", "name", 20, 20),)))
    assert name.status == "open"
    assert verdict_criteria(Result(()))[0].status == "open"


def test_axis_covers_its_numbers() -> None:
    axis = Axis.covering([0.2, None, -0.3, 1.1])
    assert (axis.low, axis.high) == (-0.5, 1.25)
    assert axis.to_percent(0.375) == 50
    assert Axis.covering([-40.0, 9.0]) == Axis(-1.0, 2.0)
    assert axis.to_percent(-40) == 0
    assert Axis(0, 1).ticks() == [Tick(0, "0"), Tick(25, "0.25"), Tick(50, "0.5"), Tick(75, "0.75"), Tick(100, "1")]


def test_bar_positions() -> None:
    chart = criteria_chart(
        verdict_criteria(Result((Score("rer", "name", 0.9, 0.8, 0.95, 100), rate("asr_post", "a", 10, 100))))
    )
    marks = {(bar.criterion.metric, bar.criterion.group): bar for bar in chart.rows}
    assert marks["rer", "name"].mark == (90, 80, 95)
    assert marks["rer", "name"].threshold_position == 80
    assert marks["rer", "domain"].mark is None
    assert marks["asr_post", "a"].threshold_position == 20


def test_change_is_a_loss_if_its_whole_interval_is_below_zero() -> None:
    rows = [{"object": "cat", "n": 9, "change": -0.5, "change_low": -0.7, "change_high": high} for high in (-0.1, 0.1)]
    assert [row.is_loss for row in interference_chart(rows).rows] == [True, False]
    assert interference_chart([{"object": "cat"}]).rows[0].change_text == "N/A"


def test_curves_fit_the_square() -> None:
    rows = [{"step": i, "loss": 1.0 - i / 2000, "part": 0.5, "grad_norm": float("nan")} for i in range(1000)]
    (panel,) = loss_panels({"train": rows})
    assert [line.name for line in panel.lines] == ["loss", "part"]
    assert panel.steps == ("0", "999")
    assert not panel.logarithmic
    points = [tuple(map(float, point.split(","))) for point in panel.lines[0].raw_points.split()]
    assert 100 < len(points) <= MAX_POINTS
    assert all(0 <= x <= 1000 and 0 <= y <= 1000 for x, y in points)
    assert all(a[0] < b[0] and a[1] < b[1] for a, b in pairwise(points))
    assert panel.lines[1].last_value == "0.5"


def test_curves_over_decades_are_logarithmic() -> None:
    assert loss_panels({"a": [{"step": 0, "loss": 1.0}, {"step": 1, "loss": 0.001}]})[0].logarithmic
    assert loss_panels({"a": [{"step": 0, "loss": 0.0}]})[0].lines[0].raw_points.count(",") == 1
    assert [panel.title for panel in loss_panels({"a": [{"loss": 1.0, "grad_norm": 2.0}]})] == [
        "a: loss",
        "a: gradient norm",
    ]


def pair(group: str, **expected: list[str]) -> ImagePair:
    return ImagePair(group, "p", "p", 1, None, None, {}, {}, expected)


def test_concept_head_is_expected_by_concept_prompts_alone() -> None:
    name = [pair("name", object=["knife", "bow"], background=[place]) for place in ("snow", "city")]
    rest = [pair("near", object=["hammer"], background=["snow"])]
    assert concept_head(name + rest) == ("object", frozenset({"knife", "bow"}))
    assert concept_head(name[:1] + rest) == ("object", frozenset({"knife", "bow"}))
    assert concept_head(rest) == (None, frozenset())
    style = [pair("name", object=[thing], style=["mosaic"]) for thing in ("cat", "dog")]
    assert concept_head([*style, pair("other", object=["cat"], style=["photo"])])[0] == "style"


def test_large_images_are_scaled_down(tmp_path: Path) -> None:
    Image.new("RGB", (1024, 768)).save(tmp_path / "a.png")
    uri, pixelated = data_uri(tmp_path / "a.png")
    assert uri.startswith("data:image/webp;base64,")
    assert not pixelated
    with Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))) as small:
        assert small.size == (512, 384)


def test_composed_erasure_has_a_command_for_each_part() -> None:
    parts = [RunSpec("pocket", {}, "esd", {"steps": i}, (Concept(name),)) for i, name in enumerate(("cat", "dog"))]
    spec = RunSpec(
        "pocket", {}, "compose", {"parts": [part.to_dict() for part in parts]}, (Concept("cat"), Concept("dog"))
    )
    first, second, note = erase_commands(spec, "both")
    assert first.startswith("efface erase cat.yaml")
    assert "--out both-2" in second
    assert "compose" in note


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (format_range([5, 3, 4, 9]), "3-5, 9 (4)"),
        (format_range([7]), "7"),
        (format_range([]), ""),
        (format_duration(5), "5.0 s"),
        (format_duration(200), "3 min 20 s"),
        (format_duration(7500), "2 h 5 min"),
        (format_size(5), "5 B"),
        (format_size(1536), "1.5 KiB"),
        (format_size(3 * 2**30), "3.0 GiB"),
        (format_number(None), "N/A"),
        (format_number(-0.001), "0.00"),
        (format_value([1, "a", None]), "1, a, none"),
        (format_value(True), "yes"),
        (shorten("ab" * 32), "ab" * 6),
        (shorten("name"), "name"),
    ],
)
def test_formatting(text: str, expected: str) -> None:
    assert text.replace("\u00a0", " ") == expected
