"""Checks that a pipeline's components fit each other; the libraries report it late, in the first forward pass."""

from __future__ import annotations

from typing import Any

from efface.core.errors import EffaceError

CURE = "give it the one that it was trained with"


def check_shapes_fit(pipe: Any) -> None:
    """Checks that text encoders, tokenizers and denoiser have matching widths and vocabularies.

    The denoiser reads states as wide as the text encoder's, for SDXL as wide as both encoders' together, and for SDXL
    the second encoder's pooled state, too.

    Raises:
        EffaceError: a width or a vocabulary size differs.
    """
    encoders = {
        name: getattr(pipe, name)
        for name in ("text_encoder", "text_encoder_2")
        if getattr(pipe, name, None) is not None
    }
    _check_state_width(pipe.unet.config.cross_attention_dim, encoders)
    if "text_encoder_2" in encoders:
        unet = pipe.unet.config
        pooled = unet.projection_class_embeddings_input_dim - 6 * unet.addition_time_embed_dim
        given = encoders["text_encoder_2"].config.projection_dim
        if pooled != given:
            raise EffaceError(
                f"the pipeline's unet reads a pooled state {pooled} wide, not text_encoder_2's {given}: {CURE}"
            )
    for name, encoder in encoders.items():
        check_vocabulary(name, encoder, getattr(pipe, name.replace("text_encoder", "tokenizer")))


def check_vocabulary(name: str, encoder: Any, tokenizer: Any) -> None:
    """Checks that a text encoder has an embedding for each of its tokenizer's tokens.

    Raises:
        EffaceError: it has fewer.
    """
    if len(tokenizer) > encoder.config.vocab_size:
        raise EffaceError(
            f"the pipeline's tokenizer has {len(tokenizer)} tokens, its {name} {encoder.config.vocab_size}: {CURE}"
        )


def _check_state_width(cross_attention_dim: Any, encoders: dict[str, Any]) -> None:
    """Checks the width of the states that cross-attention reads; it is one number, or one for each block.

    Raises:
        EffaceError: it differs from the sum of the text encoders' widths.
    """
    widths = {name: int(encoder.config.hidden_size) for name, encoder in encoders.items()}
    dims = cross_attention_dim if isinstance(cross_attention_dim, list | tuple) else [cross_attention_dim]
    read = {int(dim) for dim in dims}
    if read != {sum(widths.values())}:
        given = " and ".join(f"{name}'s {width}" for name, width in widths.items())
        raise EffaceError(
            f"the pipeline's unet reads states {max(read)} wide, not {given}: "
            f"the text encoder is another model's; {CURE}"
        )
