"""The report: one static HTML file with everything that is known of an erasure, to be read offline, mailed and printed.

Charts are SVG from the template, not plotly's: no 4.7 MB of script, sharp in print, and text that keeps its size on a phone.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from efface.core.io import atomic_write_text, user_file_errors
from efface.core.manifest import EVIDENCE
from efface.core.serialization import json_hash
from efface.core.verdict import Thresholds

from . import commands
from .evidence_loader import Evidence
from .formatting import (
    GROUPS,
    METRICS,
    flatten,
    format_cell,
    format_duration,
    format_size,
    format_time,
    format_value,
    metric,
    shorten,
)
from .loss_curves import panels
from .view_models import ReportView

REPORT = "report.html"
TEMPLATES = Path(__file__).parent / "templates"
PROMPTS = 20
"""Prompts of an attack that are shown."""


def write_report(artifact: Path, out: Path | None = None) -> Path:
    """Writes the HTML report of an artifact's folder; everything is in the one file, and nothing is fetched.

    Args:
        artifact: the folder of an erasure, with whatever lies in its ``evidence``.
        out: the file; ``<artifact>/evidence/report.html`` by default.

    Returns:
        The file's path.

    Raises:
        DamagedArtifact: a file that is not what efface wrote.
        EffaceError: no artifact there, or no permission to write.
    """
    path = artifact / EVIDENCE / REPORT if out is None else out
    html = render(Evidence.read(artifact), artifact.resolve().name)
    atomic_write_text(path, html.encode(errors="replace").decode())  # a prompt may hold half a surrogate pair
    return path


def render(evidence: Evidence, folder: str) -> str:
    """The page as text.

    Args:
        evidence: what was read.
        folder: the artifact's name, for the commands that the page gives.
    """
    env = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    env.filters.update(
        cell=format_cell,
        moment=format_time,
        duration=format_duration,
        flat=flatten,
        said=format_value,
        short=shorten,
        size=format_size,
        metric=metric,
    )
    with user_file_errors(TEMPLATES / "style.css", "read"):
        css = Markup((TEMPLATES / "style.css").read_text(encoding="utf-8"))
    return env.get_template("report.html").render(css=css, **_content(evidence, folder))


def _content(evidence: Evidence, folder: str) -> dict[str, Any]:
    erasure, spec = evidence.erasure, evidence.erasure.spec
    views = _ordered([ReportView.of(evaluation, spec) for evaluation in evidence.evaluations])
    lead, others = (views[0], views[1:]) if views else (None, [])
    return {
        "folder": shlex.quote(folder), "erasure": erasure, "spec": spec, "names": ", ".join(concept.name for concept in erasure.concepts),
        "lead": lead, "others": others, "panels": panels(evidence.history), "attacks": evidence.attacks, "prompts": PROMPTS,
        "files": evidence.files, "base": {name: shorten(json_hash(value)) for name, value in spec.base.items()},
        "commands": _commands(evidence, folder), "concept_files": [(commands.concept_file(c), c.to_yaml()) for c in erasure.concepts],
        "glossary": _glossary(evidence), "groups": GROUPS, "limits": lead.evaluation.result.thresholds if lead else Thresholds(),
    }  # fmt: skip


def _ordered(views: Sequence[ReportView]) -> list[ReportView]:
    """The newest whole test first, since a report is on that; then the newest."""
    return sorted(views, key=lambda view: bool(view.notes))


def _commands(evidence: Evidence, folder: str) -> list[str]:
    made = commands.erase_commands(evidence.erasure.spec, folder)
    made += [commands.attack_command(attack, folder) for attack in evidence.attacks]
    made += [commands.evaluate_command(evaluation, folder) for evaluation in evidence.evaluations]
    return [*made, f"efface report {shlex.quote(folder)}"]


def _glossary(evidence: Evidence) -> list[tuple[str, str]]:
    """The metrics that the page has, or those of a verdict where it has none yet."""
    results = [evaluation.result for evaluation in evidence.evaluations] + [
        a.result for a in evidence.attacks if a.result
    ]
    names = dict.fromkeys(score.metric for result in results for score in result.scores) or dict.fromkeys(
        list(METRICS)[:6]
    )
    return [(metric(name).label, metric(name).meaning) for name in names if metric(name).meaning]
