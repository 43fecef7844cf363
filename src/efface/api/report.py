"""Write the HTML report of an erasure, or of several side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from efface.core.erasure import Erasure
from efface.core.errors import EffaceError
from efface.core.output_files import check_file_path

from .validation import ErasureLike, artifact_folder

SEVERAL = Path("erasures.html")
"""File of a report of several erasures, by default."""


def report(artifacts: ErasureLike | Sequence[ErasureLike], out: str | Path | None = None) -> Path:
    """Write an HTML report of an erasure and all its evidence; or of several, side by side.

    Args:
        artifacts: The erasure, or its folder; or several.
        out: HTML file; ``<artifact>/evidence/report.html`` by default, ``erasures.html`` for several.

    Returns:
        Path of the HTML file.

    Raises:
        EffaceError: No artifact in a folder, a corrupt one, or the same one twice.
    """
    from efface.reporting.page import write_report

    folders = _folders(artifacts)
    if len(folders) == 1:
        return write_report(folders[0], None if out is None else Path(out))
    path = SEVERAL if out is None else Path(out)
    check_file_path(path, ".html")
    from efface.core.io import atomic_write_text
    from efface.reporting.evidence_loader import load_evidence
    from efface.reporting.side_by_side import labels_of, render_side_by_side

    evidence = dict(zip(labels_of(folders), map(load_evidence, folders), strict=True))
    atomic_write_text(path, render_side_by_side(evidence).encode(errors="replace").decode())
    return path


def _as_list(artifacts: ErasureLike | Sequence[ErasureLike]) -> list[ErasureLike]:
    return [artifacts] if isinstance(artifacts, str | Path | Erasure) else list(artifacts)


def _folders(artifacts: ErasureLike | Sequence[ErasureLike]) -> list[Path]:
    folders = [artifact_folder(item) for item in _as_list(artifacts)]
    if not folders:
        raise EffaceError("nothing to report: name at least one erasure")
    resolved = [folder.resolve() for folder in folders]
    if twice := [folder for folder, real in zip(folders, resolved, strict=True) if resolved.count(real) > 1]:
        raise EffaceError(f"{twice[0]} is named twice: name every erasure once")
    return folders
