"""A state edit that takes features of a sparse autoencoder out of the states behind a layer."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import Tensor

from efface.core.errors import EffaceError

ROLES = frozenset({"encoder", "encoder_bias", "decoder", "threshold"})
_EPSILON = 1e-5


def is_feature_filter(tensors: Mapping[str, Tensor]) -> bool:
    """Returns whether the tensors of a state edit are those of a feature filter."""
    return "encoder" in tensors


def feature_filter(tensors: Mapping[str, Tensor], scale: float, normalizes: bool) -> Callable[[Tensor], Tensor]:
    """Returns the map h <- h - scale s sum_f a_f d_f of hidden states ``(..., D)``.

    a_f is the activation of feature f, d_f its row of the decoder, s the factor by which states are normalized (1
    without). With scale 1 this equals decoding with the features at zero and adding the reconstruction's error back.

    Args:
        tensors: ``encoder (D, F)``, ``encoder_bias (F,)`` with the decoder's bias folded in, ``decoder (F, D)`` and
            ``threshold (F,)``.
        scale: 1 takes the features away; more turns them round.
        normalizes: whether the autoencoder reads states without mean and of unit standard deviation.

    Raises:
        EffaceError: tensors that do not fit together.
    """
    if set(tensors) != ROLES:
        raise EffaceError(f"a feature filter has the tensors {', '.join(sorted(ROLES))}")
    encoder, decoder = tensors["encoder"], tensors["decoder"]
    count = len(decoder)
    if encoder.shape != decoder.T.shape or any(
        tensors[name].shape != (count,) for name in ("encoder_bias", "threshold")
    ):
        raise EffaceError(f"the encoder {list(encoder.shape)} and decoder {list(decoder.shape)} do not fit together")

    def change(states: Tensor) -> Tensor:
        width = states.shape[-1]
        if width != len(encoder):
            raise EffaceError(f"the feature filter is for states of width {len(encoder)}, not {width}")
        inputs = states.float()
        if normalizes:
            inputs = inputs - inputs.mean(-1, keepdim=True)
            norm = inputs.std(-1, keepdim=True) + _EPSILON
            inputs = inputs / norm
        pre = inputs @ encoder.to(inputs) + tensors["encoder_bias"].to(inputs)
        active = pre.relu() * (pre > tensors["threshold"].to(inputs))
        removed = scale * (active @ decoder.to(inputs))
        return states - (removed * norm if normalizes else removed).to(states)

    return change
