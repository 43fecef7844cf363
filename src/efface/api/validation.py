"""Look-ups and checks shared by the verbs: names, concepts and folders."""

from __future__ import annotations

import os
import shlex
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from efface.core.builtin_concepts import is_builtin
from efface.core.concept import Concept, find_mention, validate_concepts
from efface.core.concept_files import ConceptFile, merge_settings, read_concept_file
from efface.core.contradictions import check_contradictions
from efface.core.erasure import Erasure
from efface.core.errors import EffaceError
from efface.core.manifest import MANIFEST
from efface.core.registry import METHODS
from efface.core.unsaved import folder_of
from efface.models.language_folder import LANGUAGE_BUNDLED
from efface.models.loading import kind_of_model, load_model
from efface.models.model_ref import BUNDLED, ModelLike, base_bundled_model, model_name, validate_pretrained_ref

if TYPE_CHECKING:
    from efface.models.editable import EditableModel

ConceptLike: TypeAlias = "str | Path | Concept"
"""A concept's name, a file of concepts, or a concept."""
ErasureLike: TypeAlias = "str | Path | Erasure"
"""An erasure, or its folder."""


DEFAULT_METHODS = {"image": "esd", "janus": "ear", "language": "elm", "classifier": "famr"}
"""By kind of model."""


def default_method(model: ModelLike) -> str:
    """Returns the method that erases from a model if none is named.

    Raises:
        EffaceError: The model does not exist, or the hub cannot be reached.
    """
    return DEFAULT_METHODS[kind_of_model(model)]


def coerce_concepts(concepts: ConceptLike | Sequence[ConceptLike]) -> ConceptFile:
    """One or several concepts as `Concept` objects, with the settings that files of concepts state.

    Raises:
        EffaceError: A file cannot be read, or two files state different settings.
    """
    found: list[Concept] = []
    settings: dict[str, Any] = {}
    if not isinstance(concepts, str | Path | Concept | Mapping | Iterable):
        raise EffaceError(f"{concepts!r} is no concept: give a name such as 'weapon', a file, or an efface.Concept")
    for item in [concepts] if isinstance(concepts, str | Path | Concept | Mapping) else concepts:
        if not isinstance(item, Path):
            found.append(Concept.coerce(item))
            continue
        content = read_concept_file(item)
        found += content.concepts
        merge_settings(settings, content.settings, str(item))
    return ConceptFile(tuple(found), settings)


def validate_erase(
    concepts: Sequence[Concept], *, out: Path, model: ModelLike, method: str, preset: str | None = None,
    config: Mapping[str, Any] | None = None, overwrite: bool = False, clip: str | None = None,
) -> None:  # fmt: skip
    """Validates concepts, method, configuration, names of models and output folder before a model is loaded.

    Raises:
        EffaceError: The first check that fails.
    """
    validate_concepts(concepts)
    _report_commas(concepts)
    check_contradictions(concepts)
    METHODS.card(method)
    METHODS.validate_config(method, preset, base_bundled_model(model_name(model)), config or {})
    if clip is not None:
        validate_pretrained_ref(clip)
    validate_output_dir(out, overwrite)


def _report_commas(concepts: Sequence[Concept]) -> None:
    """Warns of names that look like lists of concepts."""
    for concept in concepts:
        if "," in concept.name:
            parts = [part.strip() for part in concept.name.split(",") if part.strip()]
            warnings.warn(
                f"{concept.name!r} is taken as the name of one concept; to erase several, write them apart: "
                f"efface erase {shlex.join(parts)}",
                stacklevel=2,  # one place for the command and the function, so that it is shown once
            )


def validate_output_dir(out: Path, overwrite: bool = False, marker_file: str = MANIFEST, kind: str = "erasure") -> None:
    """Validates that a folder can be written.

    Args:
        out: The folder.
        overwrite: Whether an existing folder may be replaced.
        marker_file: File that an existing folder must hold to be replaced.
        kind: Name of the folder's content, for the error message.

    Raises:
        EffaceError: ``out`` is a file, is not empty, is of another kind, or cannot be written.
    """
    parent = out.absolute().parent
    if out.exists() and not out.is_dir():
        raise EffaceError(f"{out} is a file: choose another folder")
    if out.is_dir() and any(out.iterdir()):
        if not overwrite:
            raise EffaceError(f"{out} exists already: choose another folder, or overwrite it (--overwrite)")
        if not (out / marker_file).is_file():
            raise EffaceError(f"{out} is not an {kind}, so it is not replaced: choose another folder")
    if not parent.is_dir():
        raise EffaceError(f"the folder {parent} does not exist: create it first, or choose another --out")
    if not os.access(parent, os.W_OK):
        raise EffaceError(f"no permission to write to the folder {parent}: choose another --out")


def add_default_retain_sets(
    concepts: Sequence[Concept], model: str, *, of_language: bool = False
) -> tuple[Concept, ...]:
    """Gives concepts without retain prompts the retain set of their bundled model.

    The retain prompts of built-in concepts are prompts for images: a language model does not get them.

    The first concept holds the retain prompts for all. Prompts that mention a concept are left out. Concepts are
    returned unchanged if one of them has retain prompts, or if ``model`` is not bundled.
    """
    if of_language:
        concepts = [replace(item, retain_prompts=()) if is_builtin(item) else item for item in concepts]
    if model not in (*BUNDLED, *LANGUAGE_BUNDLED) or any(concept.retain_prompts for concept in concepts):
        return tuple(concepts)
    words = [word for concept in concepts for word in concept.words]
    if model in LANGUAGE_BUNDLED:
        from efface.pocket_world.retain_texts import retain_texts

        return (replace(concepts[0], retain_prompts=retain_texts(words)), *concepts[1:])
    from efface.pocket_world.split import retain_prompts

    prompts = tuple(prompt for prompt in retain_prompts() if find_mention(prompt, words) is None)
    return (replace(concepts[0], retain_prompts=prompts), *concepts[1:])


def artifact_folder(artifact: ErasureLike) -> Path:
    """Returns the folder of an erasure (see `efface.core.unsaved.folder_of`)."""
    return folder_of(artifact) if isinstance(artifact, Erasure) else Path(artifact)


def is_erasure_of(component: str, kind: str, artifact: ErasureLike, image_options: Mapping[str, object]) -> bool:
    """Returns whether an erasure was made for a model whose only component is the given one.

    Raises:
        EffaceError: It was, and an option of image models is given.
    """
    if set(load_erasure(artifact).spec.base) != {component}:
        return False
    if given := [name for name, value in image_options.items() if value is not None]:
        raise EffaceError(f"--{given[0]} belongs to image models, and this erasure is of {kind}: omit it")
    return True


def load_base(erasure: Erasure, model: ModelLike | None) -> EditableModel:
    """Loads the base model that a user names; without a name, the one that the erasure was made for."""
    return load_model(erasure.spec.model if model is None else model, default=erasure.spec.model)


def load_erasure(artifact: ErasureLike) -> Erasure:
    """Loads the erasure in a folder; an erasure in memory is returned unchanged.

    Raises:
        EffaceError: The folder holds no erasure.
    """
    folder = artifact_folder(artifact)
    if not (folder / MANIFEST).is_file():
        raise EffaceError(f"{folder} is not an erasure: it has no {MANIFEST} (make one with `efface erase`)")
    return Erasure.load(folder)
