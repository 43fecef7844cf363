"""The images of an answer as HTML: a row for each seed, the images before and after side by side."""

from __future__ import annotations

from efface.ops.png import encode_png
from efface.reporting.data_uris import PIXELATED_SIDE, encode_data_uri
from efface.reporting.templates import render_template

from .studio import Answer


def image_table(answer: Answer) -> str:
    """Returns the images of an answer as HTML, which escapes every text and holds the images as data URIs."""
    rows = []
    for i, seed in enumerate(answer.seeds):
        cells = [(row.label, encode_data_uri(encode_png(row.images[i]))) for row in answer.rows]
        rows.append((seed, cells))
    pixelated = max(answer.rows[0].images.shape[-2:]) <= PIXELATED_SIDE
    variables = {"rows": rows, "pixelated": pixelated, "settings": answer.settings, "warnings": answer.warnings}
    variables["gates"] = [(row.label, gate, strength) for row in answer.rows for gate, strength in row.gates]
    return render_template("web_images.html", variables, {})
