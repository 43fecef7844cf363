"""The report: one static HTML file with an erasure and all its evidence, to read offline, mail and print.

The template draws charts as SVG instead of plotly: no 4.7 MB of script, sharp in print, and readable on a phone.
"""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

from efface.core.concept_names import concept_names
from efface.core.io import atomic_write_text
from efface.core.manifest import EVIDENCE
from efface.core.serialization import json_hash
from efface.core.verdict import Thresholds
from efface.core.word_notes import word_notes

from .commands import attack_command, concept_file, erase_commands, evaluate_command
from .evidence import Evidence
from .evidence_loader import load_evidence
from .formatting import (
    flatten,
    format_cell,
    format_duration,
    format_size,
    format_time,
    format_value,
    shorten,
)
from .image_pairs import effect_grids
from .labels import METRICS, describe_metric, groups_of
from .loss_curves import loss_panels
from .templates import read_script, render_template
from .view_models import ReportView, attack_outcome

REPORT_FILE = "report.html"
MAX_PROMPTS = 20
"""Maximum number of prompts that the page lists for an attack."""
FILTERS = {
    function.__name__: function
    for function in (
        attack_outcome, format_cell, format_duration, format_size, format_time, format_value, flatten, shorten,
        describe_metric,
    )
}  # fmt: skip
"""Functions that the template calls."""


def write_report(artifact: Path, out: Path | None = None) -> Path:
    """Writes the HTML report of an artifact's folder as one file that loads nothing else.

    Args:
        artifact: Folder of an erasure with its evidence.
        out: HTML file; ``<artifact>/evidence/report.html`` by default.

    Returns:
        Path of the HTML file.

    Raises:
        CorruptArtifactError: A file is not as efface writes it.
        EffaceError: The folder holds no artifact, or the HTML file cannot be written.
    """
    path = artifact / EVIDENCE / REPORT_FILE if out is None else out
    html = render(load_evidence(artifact), artifact.resolve().name)
    atomic_write_text(path, html.encode(errors="replace").decode())  # a prompt may hold half a surrogate pair
    return path


def render(evidence: Evidence, folder: str) -> str:
    """Renders the page.

    Args:
        evidence: All data of the page.
        folder: Name of the artifact's folder, for the commands on the page.
    """
    return render_template("report.html", _template_variables(evidence, folder), FILTERS)


def _template_variables(evidence: Evidence, folder: str) -> dict[str, Any]:
    erasure, spec = evidence.erasure, evidence.erasure.spec
    views = [ReportView.of(evaluation, spec, folder) for evaluation in evidence.evaluations]
    lead = views[0] if views else None
    script, script_hash = read_script("lightbox.js")
    return {
        "lightbox_script": script,
        "lightbox_hash": script_hash,
        "folder": shlex.quote(folder),
        "erasure": erasure,
        "spec": spec,
        "words": word_notes(erasure),
        "concept_names": concept_names(erasure.concepts),
        "lead": lead,
        "other_views": views[1:],
        "effect_grids": effect_grids(evidence.effect_pairs),
        "texts": evidence.texts,
        "loss_panels": loss_panels(evidence.history),
        "attacks": evidence.attacks,
        "max_prompts": MAX_PROMPTS,
        "files": evidence.files,
        "base_hashes": {name: shorten(json_hash(fingerprint)) for name, fingerprint in spec.base.items()},
        "commands": _commands(evidence, folder),
        "concept_files": [(concept_file(concept), concept.to_yaml()) for concept in erasure.concepts],
        "glossary": _glossary(evidence),
        "groups": groups_of({score.metric for score in lead.evaluation.result.scores} if lead else ()),
        "thresholds": lead.evaluation.result.thresholds if lead else Thresholds(),
    }


def _commands(evidence: Evidence, folder: str) -> list[str]:
    commands = erase_commands(evidence.erasure.spec, folder)
    commands += [attack_command(attack, folder) for attack in evidence.attacks]
    commands += [evaluate_command(evaluation, folder) for evaluation in evidence.evaluations]
    return [*commands, f"efface report {shlex.quote(folder)}"]


def _glossary(evidence: Evidence) -> list[tuple[str, str]]:
    """Label and meaning of the page's metrics, or of the verdict's if there are no scores."""
    results = [evaluation.result for evaluation in evidence.evaluations]
    results += [attack.result for attack in evidence.attacks if attack.result]
    names = dict.fromkeys(score.metric for result in results for score in result.scores)
    metrics = [describe_metric(name) for name in names or list(METRICS)[:6]]
    return [(metric.label, metric.meaning) for metric in metrics if metric.meaning]
