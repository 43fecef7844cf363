"""Progress on a terminal of 80 columns, and as lines in a log."""

from __future__ import annotations

import io
import re

from rich.console import Console

from efface.ops.training.progress import LineProgress, RichProgress


def test_a_bar_of_80_columns_shows_steps_time_left_and_losses() -> None:
    stream = io.StringIO()
    progress = RichProgress(Console(file=stream, width=80, force_terminal=True, color_system=None))
    progress.start("generating before the erasure", 400, 0)
    progress.update(100, {"loss": 0.123456, "erase": 0.2, "retain": 0.3, "gradient_norm": 12.1})
    progress.stop()
    lines = [re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", line).strip() for line in re.split(r"[\r\n]", stream.getvalue())]
    assert all(len(line) <= 80 for line in lines)
    assert "generating before the erasure" in lines[-2]
    assert "100/400" in lines[-2]
    assert "loss 0.1235" in lines[-2]
    assert "…" in lines[-2]


def test_a_log_gets_a_line_every_half_minute_with_the_time_left() -> None:
    now, stream = [0.0], io.StringIO()
    progress = LineProgress(stream, clock=lambda: now[0])
    progress.start("train", 100, 20)
    for step in range(21, 61):
        now[0] += 2
        progress.update(step, {"loss": 0.5})
    progress.stop()
    assert stream.getvalue().splitlines() == [
        "train: 35 of 100, about 2 min left (loss 0.5)",
        "train: 50 of 100, about 2 min left (loss 0.5)",
        "train: 60 of 100 in 80 s",
    ]


def test_a_short_phase_leaves_no_line() -> None:
    stream = io.StringIO()
    progress = LineProgress(stream, clock=lambda: 0.0)
    progress.start("train", 2, 0)
    progress.update(2, {})
    progress.stop()
    assert stream.getvalue() == ""
