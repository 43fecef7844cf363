"""What looks at a benchmark's images, from the names that its file or the command line gives; imports nothing heavy before it is needed.

    detector   pocket-judge | imagenet:MODEL | zero-shot:CLIP | nudenet:COUNTING      and @0.3 behind it for a threshold
    clip       pocket-clip | CLIP
    features   the detector's own | FILE.safetensors (FID's Inception) | FILE.onnx

MODEL and CLIP are folders in transformers' layout or hub ids.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from efface.core.errors import EffaceError, UnknownNameError
from efface.core.score import DetectorId
from efface.models.diffusers_folder import FID_CURE, PICKLED
from efface.models.loading import validate_ref

from .benchmark import Benchmark

if TYPE_CHECKING:
    import torch
    from torch import Tensor

POCKET, POCKET_CLIP = "pocket-judge", "pocket-clip"
KINDS = (POCKET, "imagenet:MODEL", "zero-shot:CLIP", "nudenet:COUNTING")
INPUT_SIZES = {POCKET: 64, POCKET_CLIP: 64, f"zero-shot:{POCKET_CLIP}": 64}
"""Pixels a side of the images that these see."""


@dataclass(frozen=True)
class DetectorSpec:
    """A detector's name in its parts."""

    kind: str
    what: str
    threshold: float | None

    @classmethod
    def parse(cls, name: str) -> DetectorSpec:
        """Such as ``imagenet:microsoft/resnet-50@0.3``.

        Raises:
            UnknownName: no such kind. EffaceError: one that needs a model and names none, or a threshold that is none.
        """
        kind, _, rest = name.partition(":")
        what, at, level = rest.rpartition("@")
        if not at or Path(rest).is_dir():
            what, at, level = rest, "", ""
        if kind not in {one.partition(":")[0] for one in KINDS}:
            raise UnknownNameError("detector", name, KINDS)
        if (kind == POCKET) != (not rest):
            raise EffaceError(
                f"the detector {name!r} is not of the form {next(one for one in KINDS if one.startswith(kind))}"
            )
        try:
            threshold = float(level) if at else None
        except ValueError as error:
            raise EffaceError(
                f"the detector {name!r} has a threshold that is no number: write it as in {kind}:{what}@0.3"
            ) from error
        if threshold is not None and (kind == "nudenet" or not 0 <= threshold < 1):
            raise EffaceError(
                f"the detector {name!r} takes {'no threshold: it is its way of counting' if kind == 'nudenet' else '0 to 1'}"
            )
        return cls(kind, what, threshold)


def check_names(benchmark: Benchmark) -> None:
    """Raises `EffaceError` for what is no detector, no CLIP model or no file of features, before anything is loaded."""
    named = DetectorSpec.parse(benchmark.detector)
    for model in (named.what if named.kind in ("imagenet", "zero-shot") else POCKET_CLIP, benchmark.clip):
        if model != POCKET_CLIP:
            validate_ref(model)
    if benchmark.features and not benchmark.features.endswith(".onnx"):
        _safetensors(benchmark.features)
    if benchmark.features and not Path(benchmark.features).is_file():
        raise EffaceError(f"there is no file of features {benchmark.features}")


def load_detector(benchmark: Benchmark, device: torch.device | str = "cpu") -> Any:
    """The benchmark's detector; pocket's and NudeNet compute where they always do, the others on the device.

    Raises:
        EffaceError: it cannot be loaded, or does not see what the benchmark asks for.
    """
    named, asked = DetectorSpec.parse(benchmark.detector), required_classes(benchmark)
    look = _loaded(named, asked, device)
    if unseen := sorted(set(asked).difference(look.thresholds)):
        heads = ", ".join(look.thresholds)
        raise EffaceError(
            f"{benchmark.detector} sees {heads}, not {', '.join(unseen)}, which {benchmark.name} asks for: take another"
        )
    classes = look.classes if isinstance(look.classes, dict) else dict.fromkeys(look.thresholds, look.classes)
    for head, wanted in asked.items():
        if unknown := sorted(set(wanted).difference(classes[head])):
            near = difflib.get_close_matches(unknown[0], classes[head], n=1)
            hint = f"did you mean {near[0]!r}?" if near else "its classes are in its config.json"
            raise EffaceError(
                f"{benchmark.detector} has no class {unknown[0]!r}, which {benchmark.name} asks for: {hint}"
            )
    return look


def _loaded(named: DetectorSpec, asked: dict[str, tuple[str, ...]], device: torch.device | str) -> Any:
    threshold = named.threshold or 0.0
    if named.kind == POCKET:
        from efface.detectors.pocket_judge import load_judge

        return load_judge()
    if named.kind == "nudenet":
        from efface.detectors.nudenet import NudeNet
        from efface.detectors.nudity_presence import NudityPresence

        return NudityPresence(NudeNet(named.what))
    if named.kind == "zero-shot":
        from efface.detectors.zero_shot import ZeroShot

        return ZeroShot(load_clip(named.what, device), asked, threshold)
    from efface.detectors.classifier import Classifier
    from efface.models.hub import model_folder

    return Classifier(model_folder(named.what), "" if Path(named.what).is_dir() else named.what, threshold, device)


def load_clip(name: str, device: torch.device | str = "cpu") -> Any:
    """What scores images with prompts: pocket's, or a CLIP model's own towers."""
    from efface.detectors.zero_shot import load_scorer

    return load_scorer(name, "cpu" if name == POCKET_CLIP else device)


def load_features(name: str, look: Any = None, device: torch.device | str = "cpu") -> Any:
    """A network of features with its ``detector``'s name; ``""`` is the look's own.

    Raises:
        EffaceError: the look has none, or a file that is none.
    """
    if name == POCKET:
        from efface.detectors.pocket_judge import load_judge

        return OwnFeatures(load_judge())
    if not name:
        if not hasattr(look, "features"):
            raise EffaceError(
                f"{look.id} gives no features for an FID: name a network with --features FILE.safetensors or FILE.onnx"
            )
        return OwnFeatures(look)
    if name.endswith(".onnx"):
        from efface.detectors.onnx_features import OnnxFeatures

        return OnnxFeatures(name)
    _safetensors(name)
    from efface.detectors.inception_features import InceptionFeatures

    return InceptionFeatures(name, device)


class OwnFeatures:
    """The features that a look gives beside what it sees."""

    def __init__(self, look: Any) -> None:
        self._look = look
        name, _, version = look.id.partition("@")
        self.detector = DetectorId(name, version)

    def __call__(self, images: Tensor) -> Tensor:
        """Features ``(N, d)`` of images ``(N, 3, H, W)`` in [0, 1]."""
        found: Tensor = self._look.features(images)
        return found


def required_classes(benchmark: Benchmark) -> dict[str, tuple[str, ...]]:
    """By head, every class that the benchmark asks for or looks for, in the order in which they come."""
    found: dict[str, dict[str, None]] = {benchmark.head: dict.fromkeys(benchmark.classes)}
    for part in benchmark.splits:
        for row in benchmark.rows(part):
            for head, classes in row.expected.items():
                found.setdefault(head, {}).update(dict.fromkeys(classes))
    return {head: tuple(classes) for head, classes in found.items()}


def _safetensors(name: str) -> None:
    """Raises `EffaceError` for a file of features that would have to be unpickled, or is none."""
    suffix = Path(name).suffix.lower()
    if suffix not in (".safetensors", *PICKLED):
        raise EffaceError(f"features come from a file .safetensors (FID's Inception) or .onnx, not from {name!r}")
    if suffix != ".safetensors":
        raise EffaceError(
            f"{name} is read as safetensors only, for a pickle can run code: convert it once with {FID_CURE.format(name=name)}"
        )
