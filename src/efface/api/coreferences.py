"""Propose coreferents of concepts, and neighbours to retain, for CRCE."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from efface.core.chat_endpoint import ask, parse_json_object
from efface.core.concept import Concept, validate_concepts
from efface.core.concept_files import YAML_SUFFIXES
from efface.core.coreferences import Coreferences, coreferences_yaml, without_contradictions
from efface.core.errors import EffaceError
from efface.core.io import atomic_write_text
from efface.core.output_files import check_file_path
from efface.core.policy import ContentPolicyError
from efface.models.loading import load_model
from efface.models.model_ref import ModelLike, image_world

from .validation import ConceptLike, add_default_retain_sets, coerce_concepts

if TYPE_CHECKING:
    from efface.ops.training.progress import Progress

QUESTION = """\
A text-to-image model must forget the concept "{name}" ({kind}).
List up to {count} coreferents: synonyms, nicknames, and words or short phrases whose images show the same concept.
List up to {count} retained concepts: near the concept, possibly confused with it, but different and to be kept.
No retained concept may contain a coreferent or "{name}".
Give each a certainty: 1.0, 0.8, 0.6, 0.4 or 0.2.
Reply with JSON alone: {{"coreferents": {{"WORD": CERTAINTY}}, "retained": {{"WORD": CERTAINTY}}}}
"""

INSTEAD = "read the model's own vocabulary"


def propose_coreferences(
    concepts: ConceptLike | Sequence[ConceptLike], *, out: str | Path, model: ModelLike = "pocket",
    endpoint: str = "", language_model: str = "", clip: str = "", count: int = 10, num_images: int = 128,
    seed: int = 0, overwrite: bool = False, progress: Progress | None = None,
) -> dict[str, Coreferences]:  # fmt: skip
    """Propose coreferents and retained words of concepts, and write them to a YAML file to read and edit.

    Args:
        concepts: The concepts, with their retain prompts if they have some.
        out: YAML file to write, for the setting ``coreference_file`` of CRCE.
        model: Anything `efface.load_model` accepts; its vocabulary is read if no endpoint is given.
        endpoint: Address of an OpenAI-compatible endpoint, such as ``http://localhost:11434/v1``. The environment
            variable EFFACE_API_KEY holds its key, if it needs one.
        language_model: Name of the language model at the endpoint.
        clip: CLIP model that reads the model's images: ``pocket-clip``, a folder or a hub id. By default pocket's own
            for pocket, and the denoiser for other models, which misses more words.
        count: Largest number of coreferents, and of retained words.
        num_images: Images of each concept to read words from.
        seed: Seed of the images.
        overwrite: Replace a file.
        progress: Progress display; none by default.

    Returns:
        The words of each concept, by its name.

    Raises:
        EffaceError: A file that exists, an endpoint without a model's name, one that cannot be reached or used, or
            a concept of which nothing was found.
    """
    targets, path = coerce_concepts(concepts).concepts, Path(out)
    validate_concepts(targets)
    _check_file(path, overwrite)
    if bool(endpoint) != bool(language_model):
        raise EffaceError("give both --endpoint and --language-model, or neither to read the model's own vocabulary")
    if endpoint:
        found = _from_endpoint(targets, endpoint, language_model, count)
    else:
        found = _from_vocabulary(targets, model, clip, count, num_images, seed, progress)
    atomic_write_text(path, coreferences_yaml(found))
    return found


def _check_file(path: Path, overwrite: bool) -> None:
    check_file_path(path, *YAML_SUFFIXES)
    if path.exists() and not overwrite:
        raise EffaceError(f"{path} exists: choose another --out, or replace it with --overwrite")


def _from_endpoint(
    concepts: Sequence[Concept], endpoint: str, language_model: str, count: int
) -> dict[str, Coreferences]:
    """Asks a language model for the words of each concept."""
    proposed = {}
    for concept in concepts:
        question = QUESTION.format(name=concept.name, kind=concept.kind, count=count)
        reply = parse_json_object(ask(endpoint, language_model, question, instead=INSTEAD))
        try:
            words = Coreferences.from_dict(reply)
        except ContentPolicyError:
            raise
        except EffaceError as error:
            raise EffaceError(f"the reply of {language_model} about {concept.name!r} is unusable: {error}") from error
        proposed[concept.name] = (words.coreferents, words.retained)
    return without_contradictions(proposed, concepts)


def _from_vocabulary(
    concepts: Sequence[Concept], model: ModelLike, clip: str, count: int, num_images: int, seed: int,
    progress: Progress | None,
) -> dict[str, Coreferences]:  # fmt: skip
    """Reads the words of each concept from the model's vocabulary."""
    from efface.detectors.zero_shot import POCKET, load_scorer
    from efface.ops.elide.vocabulary_coreferences import coreferences_from_vocabulary

    loaded = load_model(model)
    name = clip or (POCKET if image_world(loaded.name) == "pocket" else "")
    tower = load_scorer(name, loaded.device) if name else None
    return coreferences_from_vocabulary(
        loaded, add_default_retain_sets(concepts, loaded.name), tower,
        count=count, num_images=num_images, seed=seed, progress=progress,
    )  # fmt: skip
