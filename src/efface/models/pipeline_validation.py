"""Whether a pipeline's components fit each other, and whether their files held every tensor: libraries say either late or not at all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from safetensors import safe_open

from efface.core.errors import EffaceError

from .tensor_names import canonical_name, canonical_state

CURE = "give it the one that it was trained with"


def check_shapes_fit(pipe: Any) -> None:
    """Raises `EffaceError` unless the denoiser reads states as wide as the text encoders give, and these know every token.

    The width of Stable Diffusion's states is the encoder's, that of SDXL's the sum of both, with the second's pooled state beside it.
    """
    encoders = {
        name: getattr(pipe, name)
        for name in ("text_encoder", "text_encoder_2")
        if getattr(pipe, name, None) is not None
    }
    reads, widths = (
        pipe.unet.config.cross_attention_dim,
        {name: int(part.config.hidden_size) for name, part in encoders.items()},
    )
    wanted = {int(width) for width in (reads if isinstance(reads, list | tuple) else [reads])}
    if wanted != {sum(widths.values())}:
        given = " and ".join(f"{name}'s {width}" for name, width in widths.items())
        raise EffaceError(
            f"the pipeline's unet reads states {max(wanted)} wide, not {given}: the text encoder is another model's; {CURE}"
        )
    if "text_encoder_2" in encoders:
        pooled = pipe.unet.config.projection_class_embeddings_input_dim - 6 * pipe.unet.config.addition_time_embed_dim
        if pooled != (has := encoders["text_encoder_2"].config.projection_dim):
            raise EffaceError(
                f"the pipeline's unet reads a pooled state {pooled} wide, not text_encoder_2's {has}: {CURE}"
            )
    for name, part in encoders.items():
        tokenizer = getattr(pipe, name.replace("text_encoder", "tokenizer"))
        if len(tokenizer) > part.config.vocab_size:
            raise EffaceError(
                f"the pipeline's tokenizer has {len(tokenizer)} tokens, its {name} {part.config.vocab_size}: {CURE}"
            )


def check_complete(folder: Path, pipe: Any, variant: str | None) -> None:
    """Raises `EffaceError` where a tensor is in no file: transformers draws it at random and goes on, diffusers leaves it without values.

    Args:
        folder: in diffusers layout.
        pipe: as loaded from it.
        variant: such as ``fp16``, of the files that were read.
    """
    for name in ("unet", "vae"):
        if empty := sorted(key for key, tensor in getattr(pipe, name).state_dict().items() if tensor.is_meta):
            raise EffaceError(
                f"{folder / name} lacks {len(empty)} of its tensors, such as {empty[0]}: save the whole pipeline again"
            )
    for name in ("text_encoder", "text_encoder_2"):
        files = [
            path for path in (folder / name).glob("*.safetensors") if variant is None or f".{variant}." in path.name
        ]
        if getattr(pipe, name, None) is None or not files:
            continue
        there: set[str] = set()
        for path in files:
            with safe_open(path, "pt") as file:
                there.update(canonical_name(key) for key in file.keys())  # noqa: SIM118
        if lost := sorted(set(canonical_state(getattr(pipe, name))) - there):
            raise EffaceError(
                f"{folder / name} lacks {len(lost)} of its tensors, such as {lost[0]}: save the whole pipeline again"
            )
