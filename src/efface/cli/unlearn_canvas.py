"""``efface benchmarks unlearn-canvas``: UnlearnCanvas' three rates from a table of detections."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from efface.core.errors import EffaceError

from .benchmarks import benchmarks
from .options import Json
from .output import print_result

Table = Annotated[
    Path,
    typer.Argument(
        metavar="TABLE", help="CSV file: style, object, seed, detected_style, detected_object of each image."
    ),
]
Style = Annotated[str | None, typer.Option(help="The erased style.")]
Object = Annotated[str | None, typer.Option("--object", help="The erased object.")]
AllImages = Annotated[
    bool, typer.Option("--all", help="Count the target's images in CRA, as the official script does.")
]


@benchmarks.command(name="unlearn-canvas")
def unlearn_canvas(
    table: Table,
    style: Style = None,
    erased_object: Object = None,
    all_images: AllImages = False,
    as_json: Json = False,
) -> None:
    """Print UnlearnCanvas' rates UA, IRA and CRA of an erased style or object, from a table of detections."""
    if (style is None) == (erased_object is None):
        raise EffaceError("give --style or --object, one of them: it names what was erased")
    from efface.benchmarks.unlearn_canvas import aggregate, read_detections

    domain, target = ("style", style) if style is not None else ("object", erased_object or "")
    scores = aggregate(read_detections(table), domain, target or "", "all" if all_images else "others")
    text = "\n".join(score.summary() for score in scores)
    print_result([score.to_dict() for score in scores], text, as_json)
