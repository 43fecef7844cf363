"""``efface report``: an HTML report of an erasure."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .app import app
from .options import Artifact, Json
from .output import open_in_browser, print_result

ReportFile = Annotated[
    Path | None,
    typer.Option("--out", help="HTML file to write; by default evidence/report.html in the erasure's folder."),
]


@app.command()
def report(
    artifact: Artifact,
    out: ReportFile = None,
    open_report: Annotated[bool, typer.Option("--open", help="Open the report in the browser.")] = False,
    as_json: Json = False,
) -> None:
    """Write an HTML report of an erasure with all its results, in one file that works offline."""
    from efface import api

    path = api.report(artifact, out)
    print_result({"report": str(path)}, str(path), as_json)
    if open_report:
        open_in_browser(path)
