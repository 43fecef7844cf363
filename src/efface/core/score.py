"""A score: one number with its interval, sample size, detector and provenance."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from .errors import EffaceError, check_known_keys
from .intervals import clustered_bootstrap, ratio_bootstrap, wilson
from .seeds import format_seeds, parse_seeds
from .serialization import to_jsonable_dict


@dataclass(frozen=True)
class DetectorId:
    """Identifies the detector that judged the images.

    Attributes:
        id: the detector's id, such as ``pocket-judge``.
        version: its version, or the hash of its weights.
        threshold: the threshold applied; None for a detector without one.
    """

    id: str
    version: str
    threshold: float | None = None


@dataclass(frozen=True)
class Provenance:
    """Records how the images of a score were generated.

    Attributes:
        prompts: hash of the list of prompts (`efface.core.serialization.json_hash`).
        seeds: seeds of the images, or only the root seed where each image's seed was derived from it.
        sampler: name of the sampler, such as ``ddim``.
        num_inference_steps: number of sampling steps.
        guidance_scale: classifier-free guidance scale.
        attack_steps: budget of an attack, in optimisation steps or queries per prompt.
        attack_seconds: duration of an attack, in seconds.
        extra: other settings that decide the number, such as a reference set, a scale or a resize.
    """

    prompts: str = ""
    seeds: tuple[int, ...] = ()
    sampler: str = ""
    num_inference_steps: int | None = None
    guidance_scale: float | None = None
    attack_steps: int | None = None
    attack_seconds: float | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "seeds", tuple(self.seeds))
        object.__setattr__(self, "extra", to_jsonable_dict(self.extra, "extra"))

    def to_dict(self) -> dict[str, Any]:
        """Returns all fields as JSON values, the seeds as text (`format_seeds`)."""
        return {**to_jsonable_dict(self), "seeds": format_seeds(self.seeds)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Provenance:
        """Reads what `to_dict` returned; raises `TypeError` or `EffaceError` for anything else."""
        if not isinstance(data["seeds"], str):
            raise TypeError(f"seeds must be text such as '20000-20143,20200', not {data['seeds']!r}")
        return cls(**{**data, "seeds": parse_seeds(data["seeds"])})


@dataclass(frozen=True)
class Score:
    """One metric over one group of images.

    Attributes:
        metric: name of the metric, such as ``rer``, ``abstention_rate``, ``asr_post`` or ``clip_score``.
        group: images that were measured: ``name``, ``domain``, ``near``, ``other``, ``context``, or an attack's name.
        value: the number; None without images, and for a ratio whose denominator is 0.
        low: lower bound of the 95 % interval; None together with `high` where one image gives no interval.
        high: upper bound of the 95 % interval.
        n: number of images, or of pairs of images.
        detector: detector that judged the images; None for metrics without one.
        provenance: how the images were generated.

    Raises:
        ValueError: a value without images, a bound without a value, or numbers that are not finite or in order.
    """

    metric: str
    group: str
    value: float | None
    low: float | None
    high: float | None
    n: int
    detector: DetectorId | None = None
    provenance: Provenance = field(default_factory=Provenance)

    def __post_init__(self) -> None:
        where = f"score {self.metric}/{self.group}"
        if not isinstance(self.n, int) or isinstance(self.n, bool) or self.n < 0:
            raise ValueError(f"{where}: n must be a whole number from 0, not {self.n!r}")
        if self.n == 0 and self.value is not None:
            raise ValueError(f"{where}: without images the value must be None, not {self.value}")
        if (self.low is None) != (self.high is None) or (self.value is None and self.low is not None):
            raise ValueError(f"{where}: give both bounds together with a value, or neither")
        for name in ("value", "low", "high"):
            number = getattr(self, name)
            if number is not None:
                if isinstance(number, bool | str) or not math.isfinite(number):
                    raise ValueError(f"{where}: {name} must be a finite number, not {number!r}")
                object.__setattr__(self, name, float(number))
        if self.low is not None and self.high is not None and self.low > self.high:
            raise ValueError(f"{where}: the lower bound {self.low} exceeds the upper bound {self.high}")

    @classmethod
    def rate(
        cls, metric: str, group: str, hits: int, n: int, detector: DetectorId | None, provenance: Provenance
    ) -> Score:
        """Returns the rate of hits among n images with Wilson's interval; the value is None for n = 0."""
        if n == 0:
            return cls(metric, group, None, None, None, 0, detector, provenance)
        low, high = wilson(hits, n)
        return cls(metric, group, hits / n, low, high, n, detector, provenance)

    @classmethod
    def mean(
        cls,
        metric: str,
        group: str,
        values: ArrayLike,
        clusters: Sequence[Hashable],
        rng: np.random.Generator,
        detector: DetectorId | None,
        provenance: Provenance,
    ) -> Score:
        """Returns the mean of ``(n,)`` values with a bootstrap interval over clusters; one value has no interval."""
        array = np.asarray(values, float)
        value = float(array.mean()) if len(array) else None
        low, high = clustered_bootstrap(array, clusters, rng=rng) if len(array) > 1 else (None, None)
        return cls(metric, group, value, low, high, len(array), detector, provenance)

    @classmethod
    def retention_ratio(
        cls,
        metric: str,
        group: str,
        before: ArrayLike,
        after: ArrayLike,
        clusters: Sequence[Hashable],
        rng: np.random.Generator,
        detector: DetectorId | None,
        provenance: Provenance,
    ) -> Score:
        """Returns ``mean(after) / mean(before)`` over n pairs; the value is None where `before` is all 0."""
        old, new = np.asarray(before, float), np.asarray(after, float)
        bounds = ratio_bootstrap(old, new, clusters, rng=rng) if len(old) > 1 else None
        if bounds is None:
            return cls(metric, group, None, None, None, len(old), detector, provenance)
        return cls(metric, group, float(new.mean() / old.mean()), *bounds, len(old), detector, provenance)

    @classmethod
    def relative_erasure_rate(
        cls,
        metric: str,
        group: str,
        before: ArrayLike,
        after: ArrayLike,
        clusters: Sequence[Hashable],
        rng: np.random.Generator,
        detector: DetectorId | None,
        provenance: Provenance,
    ) -> Score:
        """Returns the RER, ``1 - mean(after) / mean(before)``; negative where the concept became more frequent."""
        ratio = cls.retention_ratio(metric, group, before, after, clusters, rng, detector, provenance)
        if ratio.value is None or ratio.low is None or ratio.high is None:
            return ratio
        return cls(metric, group, 1 - ratio.value, 1 - ratio.high, 1 - ratio.low, ratio.n, detector, provenance)

    def to_dict(self) -> dict[str, Any]:
        """Returns all fields as JSON values; `from_dict` gives an equal score."""
        return {**to_jsonable_dict(self), "provenance": self.provenance.to_dict()}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Score:
        """Reads what `to_dict` returned; raises `EffaceError` for anything else."""
        check_known_keys("score field", data, (item.name for item in fields(cls)))
        try:
            detector = None if data["detector"] is None else DetectorId(**data["detector"])
            return cls(**{**data, "detector": detector, "provenance": Provenance.from_dict(data["provenance"])})
        except (KeyError, TypeError, ValueError) as error:
            raise EffaceError(f"not a valid score: {error}") from error

    def summary(self) -> str:
        """Returns text such as ``rer/name 0.95 [0.91, 0.98] n=120``; a missing value reads ``N/A``."""
        value = "N/A" if self.value is None else f"{self.value:.2f}"
        bounds = "" if self.low is None or self.high is None else f" [{self.low:.2f}, {self.high:.2f}]"
        return f"{self.metric}/{self.group} {value}{bounds} n={self.n}"
