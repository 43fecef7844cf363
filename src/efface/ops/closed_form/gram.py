"""The second moment of what a model reads of a great many captions, in the memory of one matrix."""

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
from efface.ops.tensor_conversion import to_blob, to_torch
from efface.ops.training.progress import Progress, Silent

from .embedding_cache import EmbeddingCache

FILE = "gram.safetensors"
VERSION = "1"


@dataclass
class GramAccumulator:
    """``sum_j rho_j x_j x_j^T`` over states, float64, with the number of captions and states in it and whose encoder they are of.

    Attributes:
        matrix: ``(d, d)``.
        encoder: the fingerprint of text encoder and tokenizer, as `encoder_mark` gives it; ``""`` for states of no model.
        captions: how many texts; states: how many columns.
    """

    matrix: Tensor
    encoder: str = ""
    captions: int = 0
    states: int = 0

    @classmethod
    def empty(cls, width: int, encoder: str = "") -> GramAccumulator:
        """A sum of nothing."""
        return cls(torch.zeros(width, width, dtype=torch.float64), encoder)

    @classmethod
    def of_captions(
        cls,
        model: EditableModel,
        captions: Iterable[str],
        *,
        batch: int = 64,
        progress: Progress | None = None,
        total: int = 0,
    ) -> GramAccumulator:
        """The Gram of every token of captions, read in batches as they come; what the context cuts off of a caption is left out."""
        shown = progress or Silent()
        rows = iter(captions)
        out: GramAccumulator | None = None
        shown.start("captions", total, 0)
        try:
            while part := list(islice(rows, batch)):
                with torch.no_grad():
                    states = model.encode(part).states
                out = out or cls.empty(states.shape[-1], encoder_mark(model))
                out.add(states.flatten(0, 1).T)
                out.captions += len(part)
                shown.update(out.captions, {})
        finally:
            shown.stop()
        if out is None:
            raise EffaceError("there are no captions: give at least one text")
        return out

    def add(self, states: Tensor, weight: Tensor | None = None) -> None:
        """Adds columns ``(d, n)`` with weights ``(n,)``; products are made in their precision, the sum in float64."""
        if states.shape[0] != len(self.matrix):
            raise EffaceError(f"states of width {states.shape[0]} do not go into a Gram of width {len(self.matrix)}")
        own = states if weight is None else states * weight.to(states)
        self.matrix += (own @ states.T).double().cpu()
        self.states += states.shape[1]

    def merge(self, other: GramAccumulator) -> GramAccumulator:
        """The Gram of both, such as of two halves of the captions that two machines read."""
        self.check(other.encoder)
        return GramAccumulator(
            self.matrix + other.matrix, self.encoder, self.captions + other.captions, self.states + other.states
        )  # fmt: skip

    def check(self, encoder: str) -> None:
        """Raises `EffaceError` where the states are of another encoder."""
        if encoder != self.encoder:
            raise EffaceError("the Gram was made with another text encoder or tokenizer: make one with this model's")

    def of(self, model: EditableModel) -> Tensor:
        """The matrix, for a model whose texts it is of; raises `EffaceError` for another."""
        self.check(encoder_mark(model))
        return self.matrix

    def save(self, folder: str | Path, overwrite: bool = False) -> Path:
        """Writes the Gram as a folder with one safetensors file; returns it."""
        about = {
            "version": VERSION,
            "encoder": self.encoder,
            "captions": str(self.captions),
            "states": str(self.states),
        }
        with atomic_folder(folder, replace=overwrite) as new:
            write_tensors(new / FILE, {"matrix": to_blob(self.matrix)}, about)
        return Path(folder)

    @classmethod
    def load(cls, folder: str | Path) -> GramAccumulator:
        """The Gram in a folder.

        Raises:
            EffaceError: none is there, or one of another version.
        """
        path = Path(folder) / FILE
        if not path.is_file():
            raise EffaceError(f"{folder} holds no Gram: it has no {FILE} (make one with `efface gram`)")
        file = TensorFile(path)
        about = file.metadata
        if about.get("version") != VERSION:
            raise EffaceError(
                f"{path} is a Gram of version {about.get('version')}, which this efface cannot read: make it anew"
            )
        return cls(to_torch(file["matrix"]), about["encoder"], int(about["captions"]), int(about["states"]))


def encoder_mark(model: EditableModel) -> str:
    """A hash of what decides a text's states: every text encoder's fingerprint, and what the tokenizer makes of a few texts."""
    probes = ["", "a cat", "é 2!"]
    ids = model.tokenize(probes).ids.tolist()
    prints = {name: value for name, value in model.fingerprint().items() if name.startswith("text_encoder")}
    return json_hash({"encoders": prints, "ids": ids})


def mean_caption(model: EditableModel, bank: EmbeddingCache, texts: Iterable[str], folder: str = "") -> Tensor:
    """The mean Gram of a caption, ``(d, d)``: what must stay, whatever the number of captions that say so.

    Args:
        model: whose encoder a Gram made elsewhere must be of.
        bank: where the states of the texts come from.
        texts: the captions; the empty one is always among them.
        folder: a saved `GramAccumulator` that is taken instead.

    Raises:
        EffaceError: no Gram in the folder, or one of another encoder.
    """
    if folder:
        gram = GramAccumulator.load(folder)
        gram.check(encoder_mark(model))
        return gram.matrix / max(gram.captions, 1)
    chosen = list(dict.fromkeys(["", *texts]))
    bank.add(chosen)
    return torch.stack([bank.states(text).T @ bank.states(text) for text in chosen]).mean(0)
