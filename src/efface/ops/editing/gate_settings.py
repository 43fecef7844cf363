"""Settings of gates: what an edit's ``gate`` holds in the artifact."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from efface.core.errors import EffaceError, UnknownNameError, check_known_keys


@dataclass(frozen=True)
class SimilaritySettings:
    """Settings of a gate of the kind ``similarity``: SPM's facilitated transport (Lyu et al., arXiv 2312.16145).

    gamma = factor max over phrases e of max( cos(p, e), |tok(p) and tok(e)| / |tok(e)| ), with the flattened states of
    the prompt p and of e, and their sets of tokens without special ones.

    Attributes:
        phrases: the erased phrases.
        factor: multiplies the strength.
        floor: cosine that counts as no similarity: cos is replaced by (cos - floor) / (1 - floor); 0 in the paper.
    """

    phrases: tuple[str, ...] = ()
    factor: float = 1.0
    floor: float = 0.0

    def __post_init__(self) -> None:
        phrases = tuple(self.phrases) if isinstance(self.phrases, list | tuple) else ()
        object.__setattr__(self, "phrases", phrases)
        if not phrases or not all(isinstance(phrase, str) for phrase in phrases):
            raise EffaceError("a similarity gate needs a list of phrases")
        if not self.floor < 1:
            raise EffaceError(f"a similarity gate's floor is a cosine below 1, not {self.floor}")


@dataclass(frozen=True)
class PredictionChangeSettings:
    """Settings of a gate of the kind ``prediction_change``: UnGuide's decision (arXiv 2508.05755).

    D(p) is the mean norm of the change that an adapter makes in the prediction for p, at latents that the model
    without it has denoised for ``num_steps`` of ``num_inference_steps``. The strength is 1 if D(p) > threshold D(""),
    else 0.

    Attributes:
        adapter: name of the adapter.
        threshold: 1 in the paper.
        repeats: number of latents.
        num_steps: steps of a trajectory to the latent.
        num_inference_steps: steps of a whole trajectory.
        guidance_scale: classifier-free guidance scale of the trajectory.
        seed: seed of the first latent; the others follow.
    """

    adapter: str = ""
    threshold: float = 1.0
    repeats: int = 30
    num_steps: int = 10
    num_inference_steps: int = 50
    guidance_scale: float = 7.5
    seed: int = 0


KINDS: dict[str, type[SimilaritySettings] | type[PredictionChangeSettings]] = {
    "similarity": SimilaritySettings,
    "prediction_change": PredictionChangeSettings,
}


def read_gate(gate: Mapping[str, Any]) -> SimilaritySettings | PredictionChangeSettings:
    """Reads an edit's gate: ``{"kind": "similarity", "phrases": ["weapon"], ...}``.

    Raises:
        UnknownNameError: an unknown kind or setting; the message suggests the nearest.
        EffaceError: a setting of no use.
    """
    settings = {key: value for key, value in gate.items() if key != "kind"}
    kind = str(gate.get("kind", ""))
    if kind not in KINDS:
        raise UnknownNameError("kind of gate", kind, KINDS)
    check_known_keys(f"{kind} setting", settings, (item.name for item in fields(KINDS[kind])))
    try:
        return KINDS[kind](**settings)
    except TypeError as error:
        raise EffaceError(f"a setting of the {kind} gate is of a wrong type ({error})") from error


def gate_label(gate: Mapping[str, Any]) -> str:
    """Names a gate in a few words: what it compares prompts with."""
    settings = read_gate(gate)
    if isinstance(settings, SimilaritySettings):
        return f"similarity to {', '.join(repr(phrase) for phrase in settings.phrases)}"
    return f"change of the prediction by {settings.adapter}"
