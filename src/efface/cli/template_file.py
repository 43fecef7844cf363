"""Templates of the user's own in place of the bundled library."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from efface.core.concept import Concept
from efface.core.errors import EffaceError
from efface.core.registry import METHODS

SETTING = "num_templates"


def with_template_file(
    concepts: Sequence[Concept], config: Mapping[str, Any], path: Path, method: str
) -> tuple[tuple[Concept, ...], dict[str, Any]]:
    """Replaces the concepts' library by the templates of a file, and selects all of them unless the user set a number.

    Args:
        concepts: the concepts to erase.
        config: settings that the user set.
        path: text file with one template per line.
        method: name of the method.

    Raises:
        EffaceError: an invalid file, or a method that trains on no templates.
    """
    from efface.ops.text.templates import read_templates

    templates = read_templates(path)
    if SETTING not in METHODS.setting_names(method):
        raise EffaceError(f"{method} trains on no templates: leave --template-file out, or choose another method")
    own = tuple(replace(concept, template_library=templates) for concept in concepts)
    return own, {SETTING: str(len(templates)), **config}
