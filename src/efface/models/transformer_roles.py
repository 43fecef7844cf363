"""Roles of a transformer's parameters (SD3, FLUX, PixArt), whose attention reads text and image tokens together.

- ``reads_text``: the weight of the one layer that reads the text encoders' states; ``reads_pooled``: of the one that
  reads the pooled state. All other layers read states that change with the image.
- ``text_stream``: projections of the text tokens in joint attention, the counterpart of a UNet's ``cross_all``;
  ``text_stream_kv``, ``text_stream_qk``: some of them. FLUX's single blocks project text and image tokens with the
  same weights, which are in ``attn_all`` only.
- ``attn_all``: all projections of attention; ``attn_blocks``: these and the feed-forward layers of all blocks (SPM);
  ``adaln``: the layers that modulate norms by timestep and pooled state.
- ``transformer_linear``: all Linear and convolution tensors; ``transformer_all``: every parameter, with the norms.
"""

from __future__ import annotations

from .role_rules import NamedParameter, Rule, linear_below

_ATTENTION = ("attn", "attn1", "attn2")
_MODULATED = ("norm", "norm1", "norm1_context", "norm_out")


def _in_blocks(p: NamedParameter) -> bool:
    return p.linear and p.below("transformer_blocks", "single_transformer_blocks") and not p.below(*_MODULATED)


def _reads_text(p: NamedParameter) -> bool:
    embeds_text = p.levels[0] == "context_embedder" or p.levels[:2] == ("caption_projection", "linear_1")
    return p.levels[-1] == "weight" and embeds_text


TRANSFORMER: dict[str, Rule] = {
    "reads_text": _reads_text,
    "reads_pooled": lambda p: p.levels[-1] == "weight" and p.levels[-3:-1] == ("text_embedder", "linear_1"),
    "text_stream": linear_below(_ATTENTION, ("add_q_proj", "add_k_proj", "add_v_proj", "to_add_out")),
    "text_stream_kv": linear_below(_ATTENTION, ("add_k_proj", "add_v_proj")),
    "text_stream_qk": linear_below(_ATTENTION, ("add_q_proj", "add_k_proj")),
    "attn_all": linear_below(_ATTENTION),
    "attn_blocks": _in_blocks,
    "adaln": linear_below(_MODULATED, ("linear",)),
    "transformer_linear": lambda p: p.linear,
    "transformer_all": lambda _: True,
}
