"""The Gram matrix of text embeddings of many captions, in the memory of one matrix."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor

from efface.core.errors import EffaceError
from efface.core.io import atomic_folder
from efface.core.serialization import json_hash
from efface.core.tensors import TensorFile, write_tensors
from efface.models.editable import EditableModel
from efface.models.float32_weights import float32_text_params
from efface.ops.tensor_conversion import to_blob, to_torch
from efface.ops.training.progress import Progress, Silent

from .embedding_cache import EmbeddingCache

GRAM_FILE = "gram.safetensors"
VERSION = "1"


@dataclass
class GramAccumulator:
    """The running sum ``sum_j rho_j x_j x_j^T`` over states.

    Attributes:
        matrix: ``(d, d)``, float64.
        encoder: hash of text encoder and tokenizer from `encoder_hash`; ``""`` for states of no model.
        num_captions: number of captions.
        num_states: number of states.
    """

    matrix: Tensor
    encoder: str = ""
    num_captions: int = 0
    num_states: int = 0

    @classmethod
    def empty(cls, width: int, encoder: str = "") -> GramAccumulator:
        """Returns a sum of no states."""
        return cls(torch.zeros(width, width, dtype=torch.float64), encoder)

    @classmethod
    def of_captions(
        cls,
        model: EditableModel,
        captions: Iterable[str],
        *,
        batch_size: int = 64,
        progress: Progress | None = None,
        total: int = 0,
    ) -> GramAccumulator:
        """Returns the Gram matrix of every token of the captions; captions are truncated to the context.

        Args:
            model: model whose text encoder encodes the captions.
            captions: the captions, read in batches.
            batch_size: captions encoded at the same time.
            progress: receives the number of captions.
            total: number of captions, for the progress.

        Raises:
            EffaceError: no captions.
        """
        progress = progress or Silent()
        remaining, params = iter(captions), float32_text_params(model)
        gram: GramAccumulator | None = None
        progress.start("captions", total, 0)
        try:
            while batch := list(islice(remaining, batch_size)):
                with torch.no_grad():
                    states = model.encode(batch, params=params).states
                gram = gram or cls.empty(states.shape[-1], encoder_hash(model))
                gram.add(states.flatten(0, 1).T)
                gram.num_captions += len(batch)
                progress.update(gram.num_captions, {})
        finally:
            progress.stop()
        if gram is None:
            raise EffaceError("there are no captions: give at least one text")
        return gram

    def add(self, states: Tensor, weight: Tensor | None = None) -> None:
        """Adds columns ``(d, n)`` with weights ``(n,)``; products keep their precision, the sum is float64."""
        if states.shape[0] != len(self.matrix):
            raise EffaceError(f"states of width {states.shape[0]} do not fit a Gram matrix of width {len(self.matrix)}")
        weighted = states if weight is None else states * weight.to(states)
        self.matrix += (weighted @ states.T).double().cpu()
        self.num_states += states.shape[1]

    def merge(self, other: GramAccumulator) -> GramAccumulator:
        """Returns the sum of both, such as of two halves of the captions from two machines."""
        self.check_encoder(other.encoder)
        return GramAccumulator(
            self.matrix + other.matrix,
            self.encoder,
            self.num_captions + other.num_captions,
            self.num_states + other.num_states,
        )

    def check_encoder(self, encoder: str) -> None:
        """Raises `EffaceError` if the states are of another encoder."""
        if encoder != self.encoder:
            raise EffaceError(
                "the Gram matrix was made with another text encoder or tokenizer: make one with this model's"
            )

    def matrix_for(self, model: EditableModel) -> Tensor:
        """Returns the matrix; raises `EffaceError` if it was made with another model's text encoder."""
        self.check_encoder(encoder_hash(model))
        return self.matrix

    def save(self, folder: str | Path, overwrite: bool = False) -> Path:
        """Writes the Gram matrix as a folder with one safetensors file and returns the folder."""
        metadata = {
            "version": VERSION,
            "encoder": self.encoder,
            "captions": str(self.num_captions),
            "states": str(self.num_states),
        }
        with atomic_folder(folder, replace=overwrite) as new:
            write_tensors(new / GRAM_FILE, {"matrix": to_blob(self.matrix)}, metadata)
        return Path(folder)

    @classmethod
    def load(cls, folder: str | Path) -> GramAccumulator:
        """Reads a saved Gram matrix.

        Raises:
            EffaceError: the folder has none, or one of another version.
        """
        path = Path(folder) / GRAM_FILE
        if not path.is_file():
            raise EffaceError(f"{folder} holds no Gram matrix: {GRAM_FILE} is missing (make one with `efface gram`)")
        file = TensorFile(path)
        metadata = file.metadata
        if metadata.get("version") != VERSION:
            raise EffaceError(
                f"{path} has version {metadata.get('version')}, which this version of efface cannot read: "
                "make it again with `efface gram`"
            )
        return cls(to_torch(file["matrix"]), metadata["encoder"], int(metadata["captions"]), int(metadata["states"]))


def encoder_hash(model: EditableModel) -> str:
    """Hashes the fingerprints of the text encoders and the tokenizer's ids of a few texts."""
    ids = model.tokenize(["", "a cat", "é 2!"]).ids.tolist()
    encoders = {name: value for name, value in model.fingerprint().items() if name.startswith("text_encoder")}
    return json_hash({"encoders": encoders, "ids": ids})


def mean_caption_gram(model: EditableModel, cache: EmbeddingCache, texts: Iterable[str], folder: str = "") -> Tensor:
    """Returns the mean Gram matrix of a caption, ``(d, d)``; its scale does not depend on the number of captions.

    Args:
        model: model whose encoder a saved Gram matrix must be of.
        cache: embeddings of the texts.
        texts: the captions; the empty text is always added.
        folder: folder of a saved `GramAccumulator`, which replaces the texts.

    Raises:
        EffaceError: no Gram matrix in the folder, or one of another encoder.
    """
    if folder:
        gram = GramAccumulator.load(folder)
        return gram.matrix_for(model) / max(gram.num_captions, 1)
    captions = list(dict.fromkeys(["", *texts]))
    cache.add(captions)
    return torch.stack([cache.states(text).T @ cache.states(text) for text in captions]).mean(0)
