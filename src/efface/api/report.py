"""Write the HTML report of an erasure."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    pass


def report(artifact: str | Path, out: str | Path | None = None) -> Path:
    """Write the HTML report of an erasure and everything in its evidence; returns its path, ``<artifact>/evidence/report.html``.

    Raises:
        EffaceError: no artifact there, or one that is damaged.
    """
    from efface.reporting.page import write_report

    return write_report(Path(artifact), None if out is None else Path(out))
