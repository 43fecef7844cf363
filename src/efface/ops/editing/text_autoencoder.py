"""Saved TopK autoencoders of text encoders: folders in the layout of SAELens, and erasures that hold one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from efface.core.erasure import Erasure
from efface.core.errors import CorruptArtifactError, EffaceError
from efface.core.io import atomic_write_json, read_json
from efface.core.manifest import MANIFEST
from efface.core.tensors import TensorFile, write_tensors
from efface.models.autoencoder import BUNDLED, CONFIG, WEIGHTS
from efface.models.editable import EditableModel
from efface.models.fingerprint import Fingerprint, distance, fingerprint, matches
from efface.models.model_ref import base_bundled_model
from efface.ops.tensor_conversion import to_blob, to_torch

from .module_edits import group_by_layer

SHIPPED = "shipped"
"""Name of the autoencoder that ships with a bundled model."""
CURE = "give one that was trained on this model, or train one (--set autoencoder=)"
_STORED = {"encoder": "W_enc", "encoder_bias": "b_enc", "decoder": "W_dec", "decoder_bias": "b_dec"}
"""SAELens' names; its matrices are the transposes of ours."""


@dataclass(frozen=True)
class TextAutoencoder:
    """A TopK autoencoder of the states ``(..., D)`` behind a layer of a text encoder, with F features.

    Attributes:
        component: name of the text encoder.
        layer: canonical name of the layer, such as ``encoder.layers.8``.
        num_active: number k of a state's features above 0.
        tensors: ``encoder`` ``(F, D)``, ``encoder_bias`` ``(F,)``, ``decoder`` ``(D, F)``, ``decoder_bias`` ``(D,)``.
        base: fingerprint of the text encoder.
    """

    component: str
    layer: str
    num_active: int
    tensors: Mapping[str, Tensor]
    base: Fingerprint

    def save(self, folder: Path, model_name: str) -> None:
        """Writes the settings and the weights in float32, as SAELens names them, and the encoder's fingerprint."""
        folder.mkdir(parents=True, exist_ok=True)
        stored = {name: to_blob(self.tensors[role].detach().float().t()) for role, name in _STORED.items()}
        write_tensors(folder / WEIGHTS, stored)
        num_features, width = self.tensors["encoder"].shape
        settings = {"architecture": "topk", "d_in": width, "d_sae": num_features, "k": self.num_active}
        form = {"dtype": "float32", "apply_b_dec_to_input": True, "normalize_activations": "none"}
        form |= {"rescale_acts_by_decoder_norm": False}
        place = {"model_name": model_name, "component": self.component, "hook_name": self.layer}
        metadata = {**place, "fingerprint": dict(self.base)}
        atomic_write_json(folder / CONFIG, {**settings, **form, "metadata": metadata})


def load_text_autoencoder(
    ref: str, model: EditableModel, component: str, layer: str, num_features: int, num_active: int
) -> dict[str, Tensor]:
    """Loads the tensors of a text encoder's autoencoder, float32.

    Args:
        ref: folder of an autoencoder, or of several; an erasure that holds one; or ``shipped``.
        model: the model whose states it reads.
        component: name of the text encoder.
        layer: canonical name of the layer.
        num_features: F that it must have.
        num_active: k that it must have.

    Raises:
        EffaceError: there is none, or it is of another text encoder, width, layer, F or k.
    """
    folder = _locate(ref, model)
    found = {item.component: item for item in _read(folder)}
    if component not in found:
        raise EffaceError(f"{folder} holds no autoencoder of {component}, only of {', '.join(found)}: {CURE}")
    own = found[component]
    if problem := _encoder_problem(own, model, component):
        raise EffaceError(f"the autoencoder in {folder} {problem}: {CURE}")
    values: dict[str, tuple[Any, Any]] = {
        "layer": (int(own.layer.rpartition(".")[2]), int(layer.rpartition(".")[2])),
        "num_features": (len(own.tensors["encoder"]), num_features),
        "num_active": (own.num_active, num_active),
    }
    for name, (value, wanted) in values.items():
        if value != wanted:
            raise EffaceError(
                f"the autoencoder in {folder} has {name} {value}, the configuration {wanted}: "
                f"pass --set {name}={value}, or train one (--set autoencoder=)"
            )
    return {role: tensor.to(model.device).float() for role, tensor in own.tensors.items()}


def _locate(ref: str, model: EditableModel) -> Path:
    if ref != SHIPPED:
        return Path(ref)
    name = base_bundled_model(model.name)
    if name not in BUNDLED:
        raise EffaceError(f"no autoencoder ships for {model.name}: {CURE}")
    return BUNDLED[name]


def _encoder_problem(own: TextAutoencoder, model: EditableModel, component: str) -> str:
    """Says in what an autoencoder does not fit a text encoder; empty if it fits."""
    encoder: Any = model.components[component]
    width, wanted = own.tensors["encoder"].shape[1], encoder.config.hidden_size
    if width != wanted:
        return f"has a width of {width}, {component} of {model.name} {wanted}"
    base = fingerprint(encoder)
    if matches(base, own.base):
        return ""
    change = distance(base, own.base)
    how = f"{change:.1%} from" if change < float("inf") else "of another architecture than"
    return f"was trained on another text encoder, {how} {component} of {model.name}"


def _read(folder: Path) -> Iterator[TextAutoencoder]:
    if (folder / MANIFEST).is_file():
        found = list(_of_erasure(Erasure.load(folder)))
    else:
        found = [_of_folder(path.parent) for path in sorted([*folder.glob(CONFIG), *folder.glob(f"*/{CONFIG}")])]
    if not found:
        raise EffaceError(
            f"{folder} holds no autoencoder of a text encoder: give an erasure of the method itd, or a folder with "
            f"{CONFIG} and {WEIGHTS}"
        )
    return iter(found)


def _of_erasure(erasure: Erasure) -> Iterator[TextAutoencoder]:
    for edit in erasure.edits:
        if edit.op == "module" and edit.params.get("kind") == "autoencoder":
            tensors = {role: to_torch(erasure.tensors[name]) for role, name in edit.tensors.items()}
            for layer, own in group_by_layer(tensors, "autoencoder").items():
                weights = {role: own[role] for role in _STORED}
                base = erasure.spec.base[edit.component]
                yield TextAutoencoder(edit.component, layer, int(edit.params["active"]), weights, base)


def _of_folder(folder: Path) -> TextAutoencoder:
    try:
        config: Any = read_json(folder / CONFIG)
        if config["architecture"] != "topk":
            raise EffaceError(f"{folder / CONFIG} is of the architecture {config['architecture']!r}, not topk: {CURE}")
        form = (config["apply_b_dec_to_input"], config["normalize_activations"], config["rescale_acts_by_decoder_norm"])
        if form != (True, "none", False):
            raise EffaceError(f"{folder / CONFIG} changes states or activations in ways that efface does not: {CURE}")
        file, place = TensorFile(folder / WEIGHTS), config["metadata"]
        tensors = {role: to_torch(file[name]).t().contiguous() for role, name in _STORED.items()}
        return TextAutoencoder(
            place["component"], place["hook_name"], int(config["k"]), tensors, dict(place["fingerprint"])
        )
    except (KeyError, TypeError, ValueError) as error:
        raise CorruptArtifactError(f"the autoencoder in {folder} is incomplete ({error}): {CURE}") from error
