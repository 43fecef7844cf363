"""Names of detectors, CLIP models and feature networks, checked before anything heavy is imported.

    detector   pocket-judge | imagenet:MODEL | zero-shot:CLIP | nudenet:COUNTING     optionally with a threshold: @0.3
    clip       pocket-clip | CLIP
    features   the detector's own | FILE.safetensors (FID's Inception) | FILE.onnx

MODEL and CLIP are folders in transformers' layout or hub ids. COUNTING is a counting rule of
`efface.detectors.nudenet`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from efface.core.errors import EffaceError, UnknownNameError
from efface.detectors.fid_weights import check_safetensors
from efface.models.model_ref import validate_pretrained_ref

from .benchmark import Benchmark

POCKET_JUDGE = "pocket-judge"
POCKET_CLIP = "pocket-clip"
DETECTOR_FORMS = (POCKET_JUDGE, "imagenet:MODEL", "zero-shot:CLIP", "nudenet:COUNTING")


@dataclass(frozen=True)
class DetectorSpec:
    """A detector's name in its parts.

    Attributes:
        kind: the part before the colon, such as ``imagenet``.
        source: the model or counting rule after the colon; empty for ``pocket-judge``.
        threshold: the number after ``@`` in [0, 1); None for the detector's own.
    """

    kind: str
    source: str
    threshold: float | None

    @classmethod
    def parse(cls, name: str) -> DetectorSpec:
        """Parse a name such as ``imagenet:microsoft/resnet-50@0.3``.

        Raises:
            UnknownNameError: no such kind of detector.
            EffaceError: a missing or superfluous model, or an invalid threshold.
        """
        kind, _, rest = name.partition(":")
        source, separator, level = rest.rpartition("@")
        if not separator or Path(rest).is_dir():
            source, level = rest, ""
        forms = {form.partition(":")[0]: form for form in DETECTOR_FORMS}
        if kind not in forms:
            raise UnknownNameError("detector", name, DETECTOR_FORMS)
        if (kind == POCKET_JUDGE) != (not rest):
            raise EffaceError(f"the detector {name!r} is not of the form {forms[kind]}")
        threshold = _parse_threshold(name, kind, level) if separator and source != rest else None
        return cls(kind, source, threshold)


def _parse_threshold(name: str, kind: str, level: str) -> float:
    source = name.partition(":")[2].rpartition("@")[0]
    try:
        threshold = float(level)
    except ValueError as error:
        raise EffaceError(
            f"the threshold {level!r} of the detector {name!r} is not a number: write it as in {kind}:{source}@0.3"
        ) from error
    if kind == "nudenet":
        raise EffaceError(f"the detector {name!r} takes no threshold: its counting rule has one")
    if not 0 <= threshold < 1:
        raise EffaceError(f"the threshold of the detector {name!r} must be at least 0 and below 1, not {threshold}")
    return threshold


def validate_detector_names(benchmark: Benchmark) -> None:
    """Raises `EffaceError` for an unknown detector, CLIP model or feature file, before anything is loaded."""
    spec = DetectorSpec.parse(benchmark.detector)
    detector_model = spec.source if spec.kind in ("imagenet", "zero-shot") else POCKET_CLIP
    for model in (detector_model, benchmark.clip):
        if model != POCKET_CLIP:
            validate_pretrained_ref(model)
    if not benchmark.features:
        return
    if not benchmark.features.endswith(".onnx"):
        check_safetensors(Path(benchmark.features))
    if not Path(benchmark.features).is_file():
        raise EffaceError(f"there is no feature file {benchmark.features}")
