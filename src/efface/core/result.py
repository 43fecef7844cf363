"""The result of an evaluation: scores, the thresholds of the verdict, and the verdict computed from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any

from .attack_label import attack_of
from .errors import EffaceError, check_known_keys
from .io import atomic_write_json, read_json
from .score import DetectorId, Provenance, Score
from .serialization import json_hash, to_jsonable_dict
from .verdict import Thresholds, Verdict
from .verdict_rules import counted

__all__ = ["DetectorId", "Provenance", "Result", "Score", "Thresholds", "Verdict"]

SCHEMA = 4
OTHER_CONCEPTS = "other_concepts"
"""Key in a result's metadata for the erasure's concepts that the evaluation does not measure."""


@dataclass(frozen=True)
class Result:
    """Scores of one erasure, or of a base model.

    Attributes:
        scores: the scores; no two have the same metric and group.
        metadata: description of the evaluation: the run's spec, the benchmark with its version and split, the packages.
        thresholds: limits that the verdict compares the scores with.

    Raises:
        EffaceError: two scores of the same metric and group, or a value that JSON cannot hold.
    """

    scores: tuple[Score, ...]
    metadata: Mapping[str, Any] = field(default_factory=dict)
    thresholds: Thresholds = field(default_factory=Thresholds)

    def __post_init__(self) -> None:
        object.__setattr__(self, "scores", tuple(self.scores))
        object.__setattr__(self, "metadata", to_jsonable_dict(self.metadata, "metadata"))
        seen: set[tuple[str, str]] = set()
        for score in self.scores:
            if (score.metric, score.group) in seen:
                raise EffaceError(f"score {score.metric}/{score.group} is given twice: keep one")
            seen.add((score.metric, score.group))

    @cached_property
    def verdict(self) -> Verdict:
        """The verdict on the scores; always computed, so it cannot disagree with them."""
        return Verdict.of(self.scores, self.thresholds, _caveats(self.metadata, self.scores))

    def score(self, metric: str, group: str) -> Score | None:
        """Returns the score of a metric and group, or None if it was not measured."""
        return next((score for score in self.scores if (score.metric, score.group) == (metric, group)), None)

    def attack_scores(self, metric: str = "asr_post") -> dict[str, Score]:
        """Returns the scores of a metric by attack; of several sets of one attack, that of the highest rate."""
        worst: dict[str, Score] = {}
        for score in self.scores:
            if score.metric == metric:
                attack = attack_of(score.group)
                if attack not in worst or (score.value or 0.0) > (worst[attack].value or 0.0):
                    worst[attack] = score
        return worst

    def summary(self) -> str:
        """Returns the verdict in one line."""
        return self.verdict.summary()

    def to_dict(self) -> dict[str, Any]:
        """Returns JSON values; they include the verdict for readers, which `from_dict` computes again."""
        content = {
            "scores": [score.to_dict() for score in self.scores],
            "thresholds": asdict(self.thresholds),
            "metadata": to_jsonable_dict(self.metadata),
        }
        verdict = {**to_jsonable_dict(self.verdict), "passed": self.verdict.passed}
        return {"schema": SCHEMA, "verdict": verdict, **content, "hash": json_hash(content)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Result:
        """Reads what `to_dict` returned.

        Raises:
            EffaceError: another schema version, or data that is incomplete, invalid, or not what was written.
        """
        schema = data.get("schema") if isinstance(data, Mapping) else None
        if schema != SCHEMA:
            raise EffaceError(
                f"the result has schema version {schema!r}, this efface reads {SCHEMA}: use the efface that wrote it"
            )
        content = {name: data.get(name) for name in ("scores", "thresholds", "metadata")}
        check_known_keys("result field", data, ("schema", "verdict", *content, "hash"))
        if data.get("hash") != json_hash(content):
            raise EffaceError("the scores, thresholds or metadata were changed after the evaluation")
        try:
            check_known_keys("threshold", data["thresholds"], (item.name for item in fields(Thresholds)))
            scores = tuple(Score.from_dict(score) for score in data["scores"])
            return cls(scores, data["metadata"], Thresholds(**data["thresholds"]))
        except (KeyError, TypeError) as error:
            raise EffaceError(f"the result is incomplete ({error})") from error

    def save(self, path: str | Path) -> None:
        """Writes the JSON file atomically."""
        atomic_write_json(path, self.to_dict())

    @classmethod
    def load(cls, path: str | Path) -> Result:
        """Reads the JSON file that `save` wrote; raises `EffaceError` for any other file."""
        data = read_json(path)
        if not isinstance(data, dict):
            raise EffaceError(f"{path} is not a result")
        return cls.from_dict(data)


def _caveats(metadata: Mapping[str, Any], scores: Sequence[Score]) -> list[str]:
    """Says in which ways an evaluation differs from the whole test split of its benchmark."""
    benchmark = metadata.get("benchmark")
    benchmark = benchmark if isinstance(benchmark, Mapping) else {}
    caveats = []
    if benchmark.get("split", "test") != "test":
        caveats.append(f"on the {benchmark['split']} split, which is for choosing settings")
    if metadata.get("limit") is not None:
        things = "questions" if any(counted(score) == "questions" for score in scores) else "images"
        caveats.append(f"limited to {metadata['limit']} {things} per group")
    if "seed" in benchmark and metadata.get("seed", benchmark["seed"]) != benchmark["seed"]:  # an attack states none
        caveats.append(f"with the seed {metadata['seed']} instead of the benchmark's {benchmark['seed']}")
    if metadata.get("replaced_detector"):
        caveats.append(f"judged by {metadata['replaced_detector']} instead of the benchmark's detector")
    if others := metadata.get(OTHER_CONCEPTS):
        caveats.append(f"for one concept of several: not for {', '.join(map(str, others))}")
    if metadata.get("base_mismatch"):
        caveats.append("on a base model other than the erasure's own")
    return caveats
