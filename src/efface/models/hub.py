"""Downloads from the Hugging Face hub through the libraries' own cache, which also handle tokens and HF_HUB_OFFLINE."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from diffusers import DiffusionPipeline
from huggingface_hub import hf_hub_download, snapshot_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from efface.core.errors import EffaceError

from .classifier_folder import is_classifier_config
from .diffusers_folder import check_pipeline_class
from .janus_folder import check_janus_config, is_janus_config
from .language_folder import check_architecture
from .model_ref import validate_pretrained_ref

_PRETRAINED_FILES = (
    "config.json",
    "preprocessor_config.json",
    "model.safetensors",
    "tokenizer*.json",
    "vocab.json",
    "merges.txt",
)
_LANGUAGE_FILES = ("*.json", "*.safetensors", "tokenizer.model", "merges.txt")
_UNUSED_COMPONENTS = {"safety_checker": None, "feature_extractor": None, "image_encoder": None}


def download_pipeline(ref: str, revision: str | None) -> Path:
    """Downloads a pipeline's safetensors and configurations where they are not cached, and returns their folder.

    Raises:
        EffaceError: the repository does not exist, is gated, cannot be reached or holds an unsupported pipeline;
            raised before any weights are downloaded.
    """
    with _hub_errors(ref, revision), _silence_hub():
        index_file = Path(hf_hub_download(ref, "model_index.json", revision=revision))
        index = json.loads(index_file.read_text(encoding="utf-8"))
        check_pipeline_class(str(index.get("_class_name")), ref)
        return Path(DiffusionPipeline.download(ref, revision=revision, use_safetensors=True, **_UNUSED_COMPONENTS))


def repository_kind(ref: str, revision: str | None) -> str:
    """Returns ``image`` for a repository with model_index.json, else its kind by its config.json (see `folder_kind`).

    Raises:
        EffaceError: the repository does not exist, is gated or cannot be reached.
    """
    with _hub_errors(ref, revision), _silence_hub():
        try:
            hf_hub_download(ref, "model_index.json", revision=revision)
        except LocalEntryNotFoundError:
            raise
        except EntryNotFoundError:
            config = json.loads(
                Path(hf_hub_download(ref, "config.json", revision=revision)).read_text(encoding="utf-8")
            )
            if is_janus_config(config):
                check_janus_config(config, ref)
                return "janus"
            if is_classifier_config(config):
                return "classifier"
            check_architecture(config, ref)
            return "language"
    return "image"


def download_language_model(ref: str, revision: str | None) -> Path:
    """Downloads a language model's safetensors, configuration and tokenizer, and returns their folder.

    Raises:
        EffaceError: the repository does not exist, is gated or cannot be reached.
    """
    with _hub_errors(ref, revision), _silence_hub():
        return Path(snapshot_download(ref, revision=revision, allow_patterns=list(_LANGUAGE_FILES)))


def download_classifier(ref: str, revision: str | None) -> Path:
    """Downloads a classifier's safetensors, configuration and image processor, and returns their folder.

    Raises:
        EffaceError: the repository does not exist, is gated or cannot be reached.
    """
    with _hub_errors(ref, revision), _silence_hub():
        return Path(snapshot_download(ref, revision=revision, allow_patterns=list(_PRETRAINED_FILES)))


def pretrained_folder(ref: str) -> Path:
    """Returns the folder of a classifier or CLIP model in transformers' layout.

    Downloads the model of a hub id, without pickles and code.

    Raises:
        UnknownNameError: the reference is neither a folder nor a hub id.
        EffaceError: the repository does not exist, is gated or cannot be reached.
    """
    if Path(ref).is_dir():
        return Path(ref)
    validate_pretrained_ref(ref)
    with _hub_errors(ref, None), _silence_hub():
        return Path(snapshot_download(ref, allow_patterns=list(_PRETRAINED_FILES)))


def download_dataset_file(ref: str, name: str) -> Path:
    """Downloads one file of a dataset, such as ``i2p_benchmark.csv`` of ``AIML-TUDA/i2p``; runs no code of the dataset.

    Raises:
        EffaceError: the file does not exist, the dataset is gated or the hub cannot be reached.
    """
    with _hub_errors(ref, None, f"{ref} is not the expected dataset: it has no {name}"), _silence_hub():
        return Path(hf_hub_download(ref, name, repo_type="dataset"))


@contextmanager
def _hub_errors(ref: str, revision: str | None, missing_entry: str = "") -> Iterator[None]:
    """Turns the hub's errors into an `EffaceError` of one line; ``missing_entry`` is the message for a missing file."""
    target = f"{ref}@{revision}" if revision else ref
    try:
        yield
    except GatedRepoError as error:
        raise EffaceError(
            f"{target} is gated: accept its terms on the hub, then `hf auth login` or set HF_TOKEN"
        ) from error
    except RevisionNotFoundError as error:
        raise EffaceError(f"{ref} has no revision {revision!r} on the hub") from error
    except RepositoryNotFoundError as error:
        raise EffaceError(
            f"{target} is no folder here and no repository on the hub: check the name, or set HF_TOKEN if private"
        ) from error
    except LocalEntryNotFoundError as error:
        raise EffaceError(
            f"{target} is no folder here, and the hub cannot be reached for it (no network, or HF_HUB_OFFLINE is set): "
            "give a local folder"
        ) from error
    except EntryNotFoundError as error:
        raise EffaceError(missing_entry or f"{target} is no diffusers pipeline: it has no model_index.json") from error
    except (HfHubHTTPError, OSError, ValueError) as error:
        raise EffaceError(f"{target} cannot be fetched from the hub: {str(error).strip().splitlines()[0]}") from error


@contextmanager
def _silence_hub() -> Iterator[None]:
    """Suppresses the libraries' log messages about retries; `_hub_errors` reports the outcome."""
    loggers = [logging.getLogger(name) for name in ("huggingface_hub", "diffusers")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR + 1)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
