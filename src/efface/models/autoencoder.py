"""Sparse autoencoders of a language model's states, read from folders in the layout of SAELens.

A folder holds ``cfg.json`` and ``sae_weights.safetensors``, as SAELens' ``save_model`` writes them. Features are
active above a threshold (JumpReLU), into which SAELens also folds batch-TopK and Matryoshka autoencoders.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from efface.core.errors import EffaceError
from efface.core.io import read_json

from .causal_lm import CausalLM

CONFIG, WEIGHTS = "cfg.json", "sae_weights.safetensors"
MLP_OUT, RESID_POST = "mlp_out", "resid_post"
SITES = (MLP_OUT, RESID_POST)
"""Outputs of the MLPs, and the residual stream behind the decoder layers."""
_DATA = Path(__file__).parent / "data"
BUNDLED = {"pocket": _DATA / "pocket-sae", "pocket-lm": _DATA / "pocket-lm-sae"}
"""Folder of the autoencoders that ship with a bundled model: of its text encoder, or of the language model."""
_HOOK = re.compile(rf"blocks\.(\d+)\.hook_({'|'.join(SITES)})")
_ARCHITECTURES = ("jumprelu", "standard")
_EPSILON = 1e-5
OTHER_MODEL = "give one that was trained on this model"


@dataclass(frozen=True)
class Autoencoder:
    """An autoencoder of the states ``(..., D)`` at one place, with F features.

    Attributes:
        layer: decoder layer.
        site: one of `SITES`.
        encoder: ``(D, F)``.
        encoder_bias: ``(F,)``.
        decoder: ``(F, D)``.
        decoder_bias: ``(D,)``.
        threshold: activations up to it are zero, ``(F,)``.
        normalizes: whether the mean is subtracted from states, which are then divided by their standard deviation.
    """

    layer: int
    site: str
    encoder: Tensor
    encoder_bias: Tensor
    decoder: Tensor
    decoder_bias: Tensor
    threshold: Tensor
    normalizes: bool = False

    @property
    def num_features(self) -> int:
        """Number of features F."""
        return len(self.decoder)

    def encode(self, states: Tensor) -> Tensor:
        """Returns the activations of the features, ``(..., F)``, float32."""
        centred, scale = self.normalized(states)
        pre = (centred / scale - self.decoder_bias.to(centred)) @ self.encoder.to(centred)
        pre = pre + self.encoder_bias.to(centred)
        return pre.relu() * (pre > self.threshold.to(centred))

    def normalized(self, states: Tensor) -> tuple[Tensor, Tensor]:
        """Returns states without their mean, and the scale ``(..., 1)`` to divide them by, float32."""
        states = states.float()
        if not self.normalizes:
            return states, torch.ones_like(states[..., :1])
        centred = states - states.mean(-1, keepdim=True)
        return centred, centred.std(-1, keepdim=True) + _EPSILON

    def reconstruct(self, states: Tensor) -> Tensor:
        """Returns what the features reconstruct of states, float32."""
        centred, scale = self.normalized(states)
        mean = states.float() - centred
        return (self.encode(states) @ self.decoder.to(centred) + self.decoder_bias.to(centred)) * scale + mean


def load_autoencoders(ref: str, model: CausalLM, site: str) -> dict[int, Autoencoder]:
    """Loads the autoencoders of one site by layer.

    Args:
        ref: folder of one autoencoder or of several; empty for those that ship with the model.
        model: the model whose states they read.
        site: one of `SITES`.

    Raises:
        EffaceError: no such folder, none of this site, or autoencoders of another width or layer.
    """
    if not ref and model.name not in BUNDLED:
        raise EffaceError(
            f"no autoencoders ship for {model.name}: give a folder in SAELens' layout (--set autoencoders=)"
        )
    folder = Path(ref) if ref else BUNDLED[model.name]
    configs = sorted([*folder.glob(CONFIG), *folder.glob(f"*/{CONFIG}")])
    if not configs:
        raise EffaceError(f"{folder} holds no autoencoder: save some with SAELens, each with {CONFIG} and {WEIGHTS}")
    found = [load_autoencoder(path.parent, model) for path in configs]
    chosen = {item.layer: item for item in found if item.site == site}
    if not chosen:
        raise EffaceError(
            f"{folder} holds no autoencoder of {site}, only of {', '.join({item.site for item in found})}"
        )
    return dict(sorted(chosen.items()))


def select_layers(autoencoders: Mapping[int, Autoencoder], layers: str) -> dict[int, Autoencoder]:
    """Returns the autoencoders of layers, such as ``"1,2"``; all of them for an empty text.

    Raises:
        EffaceError: a layer without an autoencoder.
    """
    if not layers:
        return dict(autoencoders)
    names = [name.strip() for name in layers.split(",")]
    known = ",".join(map(str, autoencoders))
    if missing := [name for name in names if not name.isdecimal() or int(name) not in autoencoders]:
        raise EffaceError(
            f"there is no autoencoder of layer {missing[0]!r}: choose from {known} (--set layers={known})"
        )
    return {int(name): autoencoders[int(name)] for name in names}


def load_autoencoder(folder: Path, model: CausalLM) -> Autoencoder:
    """Loads an autoencoder and checks that it fits a model.

    Raises:
        EffaceError: it is incomplete, of a kind that efface cannot run, or of another width or layer.
    """
    config = read_json(folder / CONFIG)
    if not isinstance(config, Mapping) or config.get("architecture") not in _ARCHITECTURES:
        known = " or ".join(_ARCHITECTURES)
        raise EffaceError(f"{folder / CONFIG} is not of the architecture {known}: save the autoencoder for inference")
    if not (folder / WEIGHTS).is_file():
        raise EffaceError(f"{folder} has no {WEIGHTS}: save the autoencoder with SAELens (save_model)")
    layer, site = _place(config, folder)
    if layer >= model.num_layers:
        last = model.num_layers - 1
        raise EffaceError(
            f"the autoencoder in {folder} is of layer {layer}, {model.name} has 0 to {last}: {OTHER_MODEL}"
        )
    width = model.neuron_outputs(layer).shape[-1]
    tensors = {name: tensor.to(model.device).float() for name, tensor in load_file(folder / WEIGHTS).items()}
    if missing := sorted({"W_enc", "W_dec", "b_dec"} - set(tensors)):
        raise EffaceError(f"{folder / WEIGHTS} has no {missing[0]}: save the autoencoder with SAELens (save_model)")
    if tensors["W_dec"].shape[1] != width:
        found = tensors["W_dec"].shape[1]
        raise EffaceError(f"the autoencoder in {folder} has width {found}, {model.name} {width}: {OTHER_MODEL}")
    zeros = torch.zeros_like(tensors["W_dec"][:, 0])
    bias = tensors["b_dec"]
    return Autoencoder(
        layer, site, tensors["W_enc"], _encoder_bias(config, tensors, zeros), tensors["W_dec"], bias,
        tensors.get("threshold", zeros), config.get("normalize_activations") == "layer_norm",
    )  # fmt: skip


def _encoder_bias(config: Mapping[str, Any], tensors: Mapping[str, Tensor], zeros: Tensor) -> Tensor:
    """Returns the bias behind the encoder of states without the decoder's bias, whether or not it is subtracted."""
    bias = tensors.get("b_enc", zeros)
    subtracts = bool(config.get("apply_b_dec_to_input", True))
    return bias if subtracts else bias + tensors["b_dec"] @ tensors["W_enc"]


def _place(config: Mapping[str, Any], folder: Path) -> tuple[int, str]:
    """Returns layer and site by the name of the hook, such as ``blocks.2.hook_mlp_out``."""
    metadata = config.get("metadata")
    name = str((metadata if isinstance(metadata, Mapping) else config).get("hook_name", ""))
    match = _HOOK.fullmatch(name)
    if match is None:
        raise EffaceError(
            f"{folder / CONFIG} names the hook {name!r}: efface reads blocks.N.hook_ with {', '.join(SITES)}"
        )
    return int(match[1]), match[2]
