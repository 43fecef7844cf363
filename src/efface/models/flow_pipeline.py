"""Checks that a FLUX or SD3 pipeline can stand behind the model protocol."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from diffusers import FluxPipeline, SanaPipeline, StableDiffusion3Pipeline
from torch import nn

from efface.core.errors import EffaceError

from .diffusers_folder import SUPPORTED_PIPELINES, check_components
from .module_checks import check_not_offloaded, check_one_precision
from .pipeline_validation import CURE, check_vocabulary

FLOW_PIPELINES = {
    "FluxPipeline": FluxPipeline,
    "StableDiffusion3Pipeline": StableDiffusion3Pipeline,
    "SanaPipeline": SanaPipeline,
}
_UNUSED_COMPONENTS = ("image_encoder", "feature_extractor")


def unused_components(index: Mapping[str, Any]) -> dict[str, None]:
    """Returns the arguments that leave out unused components: an image encoder, and T5 where SD3 has none."""
    unused = [name for name in _UNUSED_COMPONENTS if name in index]
    if index["_class_name"] == "StableDiffusion3Pipeline" and not (index.get("text_encoder_3") or [None])[0]:
        unused += ["text_encoder_3", "tokenizer_3"]
    return dict.fromkeys(unused)


def validate_flow_pipeline(pipe: Any) -> Any:
    """Checks that the adapters support a pipeline, and turns off its progress bars.

    Raises:
        EffaceError: the class is not supported, a component is missing, weights are offloaded, precisions differ or
            text encoders do not fit the denoiser.
    """
    class_name = next((name for name, cls in FLOW_PIPELINES.items() if isinstance(pipe, cls)), None)
    if class_name is None:
        raise EffaceError(f"a {type(pipe).__name__} is not supported: there are {SUPPORTED_PIPELINES}")
    check_components((name for name, part in pipe.components.items() if part is not None), class_name, "the pipeline")
    modules = {name: module for name, module in pipe.components.items() if isinstance(module, nn.Module)}
    check_not_offloaded(modules)
    check_one_precision(modules)
    encoders: dict[str, Any] = {name: module for name, module in modules.items() if name.startswith("text_encoder")}
    for name, encoder in encoders.items():
        check_vocabulary(name, encoder, getattr(pipe, name.replace("text_encoder", "tokenizer")))
    if class_name == "FluxPipeline":
        states, pooled = pipe.text_encoder_2.config.d_model, pipe.text_encoder.config.hidden_size
    else:
        states = encoders["text_encoder_3"].config.d_model if "text_encoder_3" in encoders else None
        pooled = sum(encoders[name].config.projection_dim for name in ("text_encoder", "text_encoder_2"))
    _check_width("states", pipe.transformer.config.joint_attention_dim, states)
    _check_width("a pooled state", pipe.transformer.config.pooled_projection_dim, pooled)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def _check_width(kind: str, read: int, given: int | None) -> None:
    """Checks the width of what the denoiser reads of the text encoders; None is not checked.

    Raises:
        EffaceError: it differs from what they give.
    """
    if given is not None and read != given:
        raise EffaceError(
            f"the pipeline's transformer reads {kind} {read} wide, not {given}: the text encoder is another model's; "
            f"{CURE}"
        )
