"""Renders the HTML pages from their templates; each page is one file that loads nothing else."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from efface.core.io import user_file_errors

FOLDER = Path(__file__).parent / "templates"


def render_template(name: str, variables: Mapping[str, Any], filters: Mapping[str, Callable[..., Any]]) -> str:
    """Renders a template with the pages' style sheet as ``css``.

    Args:
        name: file name of the template.
        variables: what the template shows.
        filters: functions that it calls, by name.
    """
    loader = FileSystemLoader(FOLDER)
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(filters)
    with user_file_errors(FOLDER / "style.css", "read"):
        css = Markup((FOLDER / "style.css").read_text(encoding="utf-8"))
    return environment.get_template(name).render(css=css, **variables)


def read_script(name: str) -> tuple[Markup, str]:
    """Returns a script of the templates, and its hash as a page's content security policy states it."""
    with user_file_errors(FOLDER / name, "read"):
        text = (FOLDER / name).read_text(encoding="utf-8")
    return Markup(text), "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
