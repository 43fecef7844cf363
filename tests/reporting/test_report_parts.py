"""What the page is made of: requirements, axes, curves, images, words."""

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
from efface.reporting.charts import Axis, Tick, bars, changes
from efface.reporting.commands import erase_commands
from efface.reporting.criteria import criteria
from efface.reporting.evidence_loader import ImagePair
from efface.reporting.formatting import format_duration, format_number, format_range, format_size, format_value, shorten
from efface.reporting.image_pairs import concept_of, data_uri
from efface.reporting.loss_curves import POINTS, panels


@given(near=st.integers(0, 120), broken=st.integers(0, 120))
def test_standings_agree_with_the_verdict(near: int, broken: int) -> None:
    found = result(near=near, broken=broken)
    standing = {(c.metric, c.group): c.status for c in criteria(found)}
    assert standing["rer", "name"] == standing["abstention_rate", "name"] == standing["retention", "context"] == "met"
    wanted = {"met": "kept", "missed": "damaged", "open": "inconclusive"}
    assert found.verdict.retention == wanted[standing["retention", "near"]]
    wanted = {"met": "withstands", "missed": "broken by synonyms", "open": "inconclusive"}
    assert found.verdict.attack == wanted[standing["asr_post", "synonyms"]]


def test_few_images_leave_a_requirement_open() -> None:
    (name, *_) = criteria(Result((rate("rer", "name", 20, 20),)))
    assert name.status == "open"
    assert criteria(Result(()))[0].status == "open"


def test_an_axis_reaches_as_far_as_its_numbers() -> None:
    axis = Axis.around([0.2, None, -0.3, 1.1])
    assert (axis.low, axis.high) == (-0.5, 1.25)
    assert axis.place(0.375) == 50
    assert Axis.around([-40.0, 9.0]) == Axis(-1.0, 2.0)
    assert axis.place(-40) == 0
    assert Axis(0, 1).ticks() == [Tick(0, "0"), Tick(25, "0.25"), Tick(50, "0.5"), Tick(75, "0.75"), Tick(100, "1")]


def test_bars_stand_where_the_numbers_say() -> None:
    chart = bars(criteria(Result((Score("rer", "name", 0.9, 0.8, 0.95, 100), rate("asr_post", "a", 10, 100)))))
    marks = {(bar.criterion.metric, bar.criterion.group): bar for bar in chart.rows}
    assert marks["rer", "name"].mark == (90, 80, 95)
    assert marks["rer", "name"].limit == 80
    assert marks["rer", "domain"].mark is None
    assert marks["asr_post", "a"].limit == 20


def test_a_change_is_marked_when_its_whole_interval_is_below_zero() -> None:
    rows = [{"object": "cat", "n": 9, "change": -0.5, "change_low": -0.7, "change_high": high} for high in (-0.1, 0.1)]
    assert [row.lost for row in changes(rows).rows] == [True, False]
    assert changes([{"object": "cat"}]).rows[0].text == "N/A"


def test_curves_fill_their_square() -> None:
    rows = [{"step": i, "loss": 1.0 - i / 2000, "part": 0.5, "grad_norm": float("nan")} for i in range(1000)]
    (panel,) = panels({"train": rows})
    assert [line.name for line in panel.lines] == ["loss", "part"]
    assert panel.steps == ("0", "999")
    assert not panel.log
    points = [tuple(map(float, point.split(","))) for point in panel.lines[0].raw.split()]
    assert 100 < len(points) <= POINTS
    assert all(0 <= x <= 1000 and 0 <= y <= 1000 for x, y in points)
    assert all(a[0] < b[0] and a[1] < b[1] for a, b in pairwise(points))
    assert panel.lines[1].last == "0.5"


def test_curves_over_decades_are_logarithmic_and_constant_ones_drawn() -> None:
    assert panels({"a": [{"step": 0, "loss": 1.0}, {"step": 1, "loss": 0.001}]})[0].log
    assert panels({"a": [{"step": 0, "loss": 0.0}]})[0].lines[0].raw.count(",") == 1
    assert [panel.title for panel in panels({"a": [{"loss": 1.0, "grad_norm": 2.0}]})] == [
        "a: loss",
        "a: gradient norm",
    ]


def pair(group: str, **asked: list[str]) -> ImagePair:
    return ImagePair(group, "p", "p", 1, None, None, {}, {}, asked)


def test_the_concept_is_what_only_its_own_prompts_ask_for() -> None:
    name = [pair("name", object=["knife", "bow"], background=[place]) for place in ("snow", "city")]
    rest = [pair("near", object=["hammer"], background=["snow"])]
    assert concept_of(name + rest) == ("object", frozenset({"knife", "bow"}))
    assert concept_of(name[:1] + rest) == ("object", frozenset({"knife", "bow"}))
    assert concept_of(rest) == (None, frozenset())
    style = [pair("name", object=[thing], style=["mosaic"]) for thing in ("cat", "dog")]
    assert concept_of([*style, pair("other", object=["cat"], style=["photo"])])[0] == "style"


def test_large_images_are_made_smaller(tmp_path: Path) -> None:
    Image.new("RGB", (1024, 768)).save(tmp_path / "a.png")
    uri, crisp = data_uri(tmp_path / "a.png")
    assert uri.startswith("data:image/webp;base64,")
    assert not crisp
    with Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))) as small:
        assert small.size == (512, 384)


def test_a_composed_erasure_is_redone_part_by_part() -> None:
    parts = [RunSpec("pocket", {}, "esd", {"steps": i}, (Concept(name),)) for i, name in enumerate(("cat", "dog"))]
    spec = RunSpec(
        "pocket", {}, "compose", {"parts": [part.to_dict() for part in parts]}, (Concept("cat"), Concept("dog"))
    )
    first, second, note = erase_commands(spec, "both")
    assert first.startswith("efface erase cat.yaml")
    assert "--out both-2" in second
    assert "compose" in note


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (format_range([5, 3, 4, 9]), "3-5, 9 (4)"), (format_range([7]), "7"), (format_range([]), ""), (format_duration(5), "5.0 s"), (format_duration(200), "3 min 20 s"),
        (format_duration(7500), "2 h 5 min"), (format_size(5), "5 B"), (format_size(1536), "1.5 KiB"), (format_size(3 * 2**30), "3.0 GiB"), (format_number(None), "N/A"),
        (format_number(-0.001), "0.00"), (format_value([1, "a", None]), "1, a, none"), (format_value(True), "yes"), (shorten("ab" * 32), "ab" * 6),
        (shorten("name"), "name"),
    ],
)  # fmt: skip
def test_words(text: str, wanted: str) -> None:
    assert text.replace("\u00a0", " ") == wanted
