"""A score: one number with all that is needed to believe it."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from .errors import EffaceError, check_known_keys
from .intervals import clustered_bootstrap, ratio_bootstrap, wilson
from .serialization import to_jsonable_dict


@dataclass(frozen=True)
class DetectorId:
    """What looked at the images: the detector's id, its version, and the threshold that was applied (None where it has none)."""

    id: str
    version: str
    threshold: float | None = None


@dataclass(frozen=True)
class Provenance:
    """How the images came about.

    Attributes:
        prompts: the hash of the list of prompts (`efface.core.serialization.json_hash`).
        seeds: the seeds, or the root seed alone where one per image was derived from it.
        sampler: the sampler's name, such as ``ddim``.
        steps: sampling steps.
        guidance: classifier-free guidance scale.
        attack_steps: for attacks, the budget in optimisation steps or queries.
        attack_seconds: for attacks, the seconds it took.
        extra: whatever else decides the number: a reference set, a scale, a resize.
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


@dataclass(frozen=True)
class Score:
    """One metric over one group of images.

    Attributes:
        metric: what was measured, such as ``rer``, ``abstention_rate``, ``asr_post``, ``clip_score``.
        group: which images: ``name``, ``domain``, ``near``, ``other``, ``context``, or an attack's name.
        value: the number; None where there is none to state: no images, or a ratio to nothing.
        low: lower bound of the 95 % interval; None together with `high` where one image gives no interval.
        high: upper bound.
        n: how many images (or pairs of them) it rests on.
        detector: what judged them; None for metrics without one.
        provenance: how they came about.

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
            raise ValueError(f"{where}: n is {self.n!r}")
        if self.n == 0 and self.value is not None:
            raise ValueError(f"{where}: no images give no score, not {self.value}")
        if (self.low is None) != (self.high is None) or (self.value is None and self.low is not None):
            raise ValueError(f"{where}: bounds come in pairs and with a value")
        for name in ("value", "low", "high"):
            number = getattr(self, name)
            if number is not None:
                if isinstance(number, bool | str) or not math.isfinite(number):
                    raise ValueError(f"{where}: {name} is {number!r}")
                object.__setattr__(self, name, float(number))
        if self.low is not None and self.high is not None and self.low > self.high:
            raise ValueError(f"{where}: the bounds {self.low} and {self.high} are the wrong way round")

    @classmethod
    def rate(
        cls, metric: str, group: str, hits: float, n: int, detector: DetectorId | None, provenance: Provenance
    ) -> Score:
        """A rate of hits among n images, with Wilson's interval; no images, no value."""
        if n == 0:
            return cls(metric, group, None, None, None, 0, detector, provenance)
        low, high = wilson(hits, n)
        return cls(metric, group, hits / n, low, high, n, detector, provenance)

    @classmethod
    def mean(
        cls, metric: str, group: str, values: ArrayLike, clusters: Sequence[Hashable], rng: np.random.Generator,
        detector: DetectorId | None, provenance: Provenance,
    ) -> Score:  # fmt: skip
        """A mean of ``(n,)`` values, with a bootstrap over clusters; no interval of a single value."""
        array = np.asarray(values, float)
        value = float(array.mean()) if len(array) else None
        low, high = clustered_bootstrap(array, clusters, rng=rng) if len(array) > 1 else (None, None)
        return cls(metric, group, value, low, high, len(array), detector, provenance)

    @classmethod
    def retention_ratio(
        cls, metric: str, group: str, before: ArrayLike, after: ArrayLike, clusters: Sequence[Hashable], rng: np.random.Generator,
        detector: DetectorId | None, provenance: Provenance,
    ) -> Score:  # fmt: skip
        """The share that is left, ``mean(after) / mean(before)``, over n pairs; no value where there was nothing before."""
        old, new = np.asarray(before, float), np.asarray(after, float)
        bounds = ratio_bootstrap(old, new, clusters, rng=rng) if len(old) > 1 else None
        if bounds is None:
            return cls(metric, group, None, None, None, len(old), detector, provenance)
        return cls(metric, group, float(new.mean() / old.mean()), *bounds, len(old), detector, provenance)

    @classmethod
    def relative_erasure_rate(
        cls, metric: str, group: str, before: ArrayLike, after: ArrayLike, clusters: Sequence[Hashable], rng: np.random.Generator,
        detector: DetectorId | None, provenance: Provenance,
    ) -> Score:  # fmt: skip
        """The relative erasure rate (RER), ``1 - mean(after) / mean(before)``; negative where the concept became more frequent."""
        left = cls.retention_ratio(metric, group, before, after, clusters, rng, detector, provenance)
        if left.value is None or left.low is None or left.high is None:
            return left
        return cls(metric, group, 1 - left.value, 1 - left.high, 1 - left.low, left.n, detector, provenance)

    def to_dict(self) -> dict[str, Any]:
        """All fields as plain JSON; `from_dict` gives an equal score."""
        return to_jsonable_dict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Score:
        """The score that `to_dict` described; `EffaceError` where it is none."""
        check_known_keys("score field", data, (item.name for item in fields(cls)))
        try:
            detector = None if data["detector"] is None else DetectorId(**data["detector"])
            return cls(**{**data, "detector": detector, "provenance": Provenance(**data["provenance"])})
        except (KeyError, TypeError, ValueError) as error:
            raise EffaceError(f"not a sound score: {error}") from error

    def summary(self) -> str:
        """Such as ``rer/name 0.95 [0.91, 0.98] n=120``; ``N/A`` in place of a value that there is none of."""
        value = "N/A" if self.value is None else f"{self.value:.2f}"
        bounds = "" if self.low is None or self.high is None else f" [{self.low:.2f}, {self.high:.2f}]"
        return f"{self.metric}/{self.group} {value}{bounds} n={self.n}"
