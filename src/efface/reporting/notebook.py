"""What a notebook shows for an erasure: one line, its effect, and images before and after."""

from __future__ import annotations

import html
import json
from pathlib import Path

from efface.core.erasure import Erasure
from efface.core.manifest import EFFECT_CHECK, EVIDENCE, IMAGES

from .data_uris import data_uri
from .labels import EFFECT_GROUPS

MAX_PAIRS = 4
"""Pairs of images shown for each group."""


def erasure_html(erasure: Erasure) -> str:
    """Returns the HTML of an erasure; without a folder, it has no images."""
    title = html.escape(repr(erasure).strip("<>"))
    summary = html.escape(str((erasure.effect or {}).get("summary", "no effect check")))
    parts = [f"<p><strong>{title}</strong><br>{summary}</p>"]
    folder = erasure.folder / EVIDENCE / EFFECT_CHECK if erasure.folder is not None else None
    if folder is not None and (folder / IMAGES).is_file():
        parts += [_group_html(folder, group, caption) for group, (caption, _) in EFFECT_GROUPS.items()]
    return "".join(parts)


def _group_html(folder: Path, group: str, caption: str) -> str:
    """Returns a table with one column for each pair, before above after."""
    rows = [row for row in json.loads((folder / IMAGES).read_text("utf-8")) if row["group"] == group]
    rows = rows[:MAX_PAIRS]
    header = "".join(f"<th>{html.escape(row['prompt'])}</th>" for row in rows)
    lines = [f"<tr><th></th>{header}</tr>"]
    for when in ("before", "after"):
        images = [f'<td><img alt="{when}" width="128" src="{data_uri(folder / row[when])[0]}"></td>' for row in rows]
        lines.append(f"<tr><th>{when}</th>{''.join(images)}</tr>")
    return f"<table><caption>{caption}</caption>{''.join(lines)}</table>"
