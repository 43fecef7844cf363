"""``efface leaderboard``: results of many methods as a site of offline pages."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from efface import __version__

from .app import app
from .options import Json
from .output import open_in_browser

Results = Annotated[
    list[Path], typer.Argument(metavar="RESULTS...", help="Folders of sweeps, or files of compact results.")
]
SiteOut = Annotated[Path, typer.Option("--out", help="Folder of the site; an earlier leaderboard in it is replaced.")]


@app.command()
def leaderboard(
    results: Results,
    out: SiteOut = Path("site"),
    open_page: Annotated[bool, typer.Option("--open", help="Open the page in the browser.")] = False,
    as_json: Json = False,
) -> None:
    """Write a leaderboard: a sortable table, Pareto charts, charts of each attack, and a page of each method."""
    from efface.reporting.leaderboard_site import write_site

    page = write_site(results, out, __version__)
    print(json.dumps({"page": str(page)}) if as_json else page)
    if open_page:
        open_in_browser(page)
