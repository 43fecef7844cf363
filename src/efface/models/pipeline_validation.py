"""Checks that a pipeline's components fit each other and that its files held every tensor.

The libraries report either late, in the first forward pass, or not at all.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from safetensors import safe_open

from efface.core.errors import EffaceError

from .tensor_names import canonical_name, canonical_state

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
        tokenizer = getattr(pipe, name.replace("text_encoder", "tokenizer"))
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


def check_complete(folder: Path, pipe: Any, variant: str | None) -> None:
    """Checks that every tensor of a loaded pipeline was in its files.

    For a missing tensor, transformers draws random values and continues, and diffusers leaves the tensor on the meta
    device.

    Args:
        folder: in diffusers layout.
        pipe: the pipeline that was loaded from the folder.
        variant: such as ``fp16``, of the files that were read.

    Raises:
        EffaceError: a tensor is in no file.
    """
    for name in ("unet", "vae"):
        state = getattr(pipe, name).state_dict()
        if missing := sorted(key for key, tensor in state.items() if tensor.is_meta):
            raise _incomplete(folder / name, missing)
    for name in ("text_encoder", "text_encoder_2"):
        files = [
            path for path in (folder / name).glob("*.safetensors") if variant is None or f".{variant}." in path.name
        ]
        if getattr(pipe, name, None) is None or not files:
            continue
        saved: set[str] = set()
        for path in files:
            with safe_open(path, "pt") as file:
                saved.update(canonical_name(key) for key in file.keys())  # noqa: SIM118
        if missing := sorted(set(canonical_state(getattr(pipe, name))) - saved):
            raise _incomplete(folder / name, missing)


def _incomplete(folder: Path, missing: list[str]) -> EffaceError:
    return EffaceError(
        f"{folder} lacks {len(missing)} of its tensors, such as {missing[0]}: save the whole pipeline again"
    )
