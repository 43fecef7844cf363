"""What a checkpoint in one file says about its training besides its weights: noise levels, prediction type, size.

Checkpoints state the prediction type in ``modelspec`` metadata (https://github.com/Stability-AI/ModelSpec) or by an
empty tensor named ``v_pred``, and a terminal SNR of zero by one named ``ztsnr``. Files that efface writes say all of
it so, and hold the complete settings in metadata of their own.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import diffusers
from diffusers import SchedulerMixin

from efface.core.errors import EffaceError

SETTINGS_KEY = "efface.pipeline"
PREDICTION_KEY = "modelspec.prediction_type"
VELOCITY, ZERO_SNR = "v_pred", "ztsnr"
"""Names of the marker tensors."""
_PREDICTION_TYPES = {"v": "v_prediction", "epsilon": "epsilon"}


@dataclass(frozen=True)
class CheckpointSettings:
    """Settings that a checkpoint states.

    Attributes:
        scheduler: entries of the scheduler's configuration that replace the model configuration's.
        sample_size: height and width of the latents; None if the file does not say.
        pipeline: arguments of the pipeline, such as ``force_zeros_for_empty_prompt``.
    """

    scheduler: Mapping[str, Any] = field(default_factory=dict)
    sample_size: int | None = None
    pipeline: Mapping[str, Any] = field(default_factory=dict)

    def build_scheduler(self, config: Mapping[str, Any]) -> Any:
        """Builds the scheduler of a configuration with the checkpoint's entries in place of its own.

        Raises:
            EffaceError: diffusers has no such scheduler.
        """
        merged = {**config, **self.scheduler}
        # The class fills in the defaults that a configuration of its own kind leaves out.
        name = str(merged.get("_class_name", "DDIMScheduler"))
        scheduler_class: Any = getattr(diffusers, name, None)
        if not (isinstance(scheduler_class, type) and issubclass(scheduler_class, SchedulerMixin)):
            raise EffaceError(f"diffusers has no scheduler {name!r}: give another config (--model-config)")
        built: Any = scheduler_class
        return built.from_config(merged)


def read_settings(names: Collection[str], metadata: Mapping[str, str], where: str) -> CheckpointSettings:
    """Reads what a checkpoint states.

    Args:
        names: names of its tensors.
        metadata: texts in its header.
        where: the file, for messages.

    Raises:
        EffaceError: the metadata that efface wrote are damaged.
    """
    if SETTINGS_KEY in metadata:
        try:
            stored = json.loads(metadata[SETTINGS_KEY])
            return CheckpointSettings(dict(stored["scheduler"]), int(stored["sample_size"]), dict(stored["pipeline"]))
        except (ValueError, KeyError, TypeError) as error:
            raise EffaceError(f"{where}: its metadata {SETTINGS_KEY} are damaged: export the model again") from error
    scheduler: dict[str, Any] = {}
    if prediction_type := _PREDICTION_TYPES.get(metadata.get(PREDICTION_KEY, "")):
        scheduler["prediction_type"] = prediction_type
    elif VELOCITY in names:
        scheduler["prediction_type"] = "v_prediction"
    if ZERO_SNR in names:
        scheduler |= {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
    return CheckpointSettings(scheduler)


def settings_metadata(pipe: Any) -> dict[str, str]:
    """Returns the metadata that `read_settings` reads."""
    scheduler = {"_class_name": type(pipe.scheduler).__name__, **dict(pipe.scheduler.config)}
    public = {key: value for key, value in scheduler.items() if key == "_class_name" or not key.startswith("_")}
    arguments = ("force_zeros_for_empty_prompt",)
    stored = {
        "scheduler": public,
        "sample_size": pipe.unet.config.sample_size,
        "pipeline": {key: pipe.config[key] for key in arguments if key in pipe.config},
    }
    short = {long: name for name, long in _PREDICTION_TYPES.items()}
    prediction_type = short.get(str(pipe.scheduler.config.get("prediction_type", "epsilon")))
    metadata = {SETTINGS_KEY: json.dumps(stored, sort_keys=True)}
    return {**metadata, PREDICTION_KEY: prediction_type} if prediction_type else metadata


def settings_markers(pipe: Any) -> tuple[str, ...]:
    """Returns the names of the marker tensors that a pipeline's checkpoint has."""
    config = pipe.scheduler.config
    is_marked = {
        VELOCITY: config.get("prediction_type") == "v_prediction",
        ZERO_SNR: bool(config.get("rescale_betas_zero_snr")),
    }
    return tuple(name for name, marked in is_marked.items() if marked)
