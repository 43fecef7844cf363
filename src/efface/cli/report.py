"""``efface report``: an HTML report of an erasure, or of several."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .app import app
from .options import Json
from .output import open_in_browser, print_result

Artifacts = Annotated[list[Path], typer.Argument(help="Folder of the erasure; several are shown side by side.")]
ReportFile = Annotated[
    Path | None,
    typer.Option(
        "--out",
        help="HTML file to write; by default evidence/report.html in the erasure's folder, erasures.html for several.",
    ),
]


@app.command()
def report(
    artifacts: Artifacts,
    out: ReportFile = None,
    open_report: Annotated[bool, typer.Option("--open", help="Open the report in the browser.")] = False,
    as_json: Json = False,
) -> None:
    """Write an HTML report of an erasure, or of several side by side, in one file that works offline."""
    from efface import api

    path = api.report(artifacts, out)
    print_result({"report": str(path)}, str(path), as_json)
    if open_report:
        open_in_browser(path)
