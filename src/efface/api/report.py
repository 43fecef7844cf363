"""Write the HTML report of an erasure."""

from __future__ import annotations

from pathlib import Path

from .validation import ErasureLike, artifact_folder


def report(artifact: ErasureLike, out: str | Path | None = None) -> Path:
    """Write an HTML report of an erasure and all its evidence.

    Args:
        artifact: The erasure, or its folder.
        out: HTML file; ``<artifact>/evidence/report.html`` by default.

    Returns:
        Path of the HTML file.

    Raises:
        EffaceError: No artifact in the folder, or a corrupt one.
    """
    from efface.reporting.page import write_report

    return write_report(artifact_folder(artifact), None if out is None else Path(out))
