"""A pipeline's files from the Hugging Face hub, through the libraries' own cache; tokens and HF_HUB_OFFLINE are theirs."""

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

from .diffusers_folder import check_kind
from .loading import validate_ref

_MODEL = ("config.json", "preprocessor_config.json", "model.safetensors", "tokenizer*.json", "vocab.json", "merges.txt")
_UNREAD = {"safety_checker": None, "feature_extractor": None, "image_encoder": None}


def download_pipeline(ref: str, revision: str | None) -> Path:
    """The folder of a hub repository's pipeline, downloaded where it is not in the cache: safetensors and configurations only.

    Raises:
        EffaceError: it is not there, not allowed, not reachable, or a pipeline that is not supported; told before any weight is fetched.
    """
    with _hub_errors(ref, revision), _silence_hub():
        index = json.loads(
            Path(hf_hub_download(ref, "model_index.json", revision=revision)).read_text(encoding="utf-8")
        )
        check_kind(str(index.get("_class_name")), ref)
        return Path(DiffusionPipeline.download(ref, revision=revision, use_safetensors=True, **_UNREAD))


def model_folder(ref: str) -> Path:
    """The folder of a classifier or CLIP model in transformers' layout: itself, or a hub repository's, without pickles and code.

    Raises:
        UnknownName: neither a folder nor a hub id. EffaceError: it is not there, not allowed or not reachable.
    """
    if Path(ref).is_dir():
        return Path(ref)
    validate_ref(ref)
    with _hub_errors(ref, None), _silence_hub():
        return Path(snapshot_download(ref, allow_patterns=list(_MODEL)))


def dataset_file(ref: str, name: str) -> Path:
    """One file of a dataset on the hub, such as ``i2p_benchmark.csv`` of ``AIML-TUDA/i2p``; nothing of it is run.

    Raises:
        EffaceError: it is not there, not allowed or not reachable.
    """
    with _hub_errors(ref, None, f"{ref} is no such dataset: it has no {name}"), _silence_hub():
        return Path(hf_hub_download(ref, name, repo_type="dataset"))


@contextmanager
def _hub_errors(ref: str, revision: str | None, lacking: str = "") -> Iterator[None]:
    at = f"{ref}@{revision}" if revision else ref
    try:
        yield
    except GatedRepoError as error:
        raise EffaceError(
            f"{at} is gated: accept its terms on the hub, then `hf auth login` or set HF_TOKEN"
        ) from error
    except RevisionNotFoundError as error:
        raise EffaceError(f"{ref} has no revision {revision!r} on the hub") from error
    except RepositoryNotFoundError as error:
        raise EffaceError(
            f"{at} is no folder here and no repository on the hub: check the name, or set HF_TOKEN if private"
        ) from error
    except LocalEntryNotFoundError as error:
        raise EffaceError(
            f"{at} is no folder here, and the hub cannot be reached for it (no network, or HF_HUB_OFFLINE is set): give a local folder"
        ) from error
    except EntryNotFoundError as error:
        raise EffaceError(lacking or f"{at} is no diffusers pipeline: it has no model_index.json") from error
    except (HfHubHTTPError, OSError, ValueError) as error:
        raise EffaceError(f"{at} cannot be fetched from the hub: {str(error).strip().splitlines()[0]}") from error


@contextmanager
def _silence_hub() -> Iterator[None]:
    """The hub's own words about retries left out: what comes of them is said in one line."""
    loggers = [logging.getLogger(name) for name in ("huggingface_hub", "diffusers")]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR + 1)
    try:
        yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)
