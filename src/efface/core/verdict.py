"""The verdict on an erasure, from interval bounds only. `Thresholds` holds every limit."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from .score import Score
from .verdict_rules import (
    TARGETS,
    ErasureVerdict,
    RetentionVerdict,
    Thresholds,
    decide_attacks,
    decide_destroyed,
    decide_erasure,
    decide_retention,
)

__all__ = ["BENCHMARK_MISMATCH", "TARGETS", "Thresholds", "Verdict"]

BENCHMARK_MISMATCH = "benchmark_mismatch"
"""Key in a score's provenance that states how its benchmark differs from the erasure."""


@dataclass(frozen=True)
class Verdict:
    """The proven findings on erasure, retention and attacks.

    Attributes:
        erasure: erased, partly erased, not erased (also for destroyed images), or inconclusive.
        retention: kept, damaged, or inconclusive.
        attack: ``withstands``, ``broken by <attack>``, ``not attacked``, or ``inconclusive``.
        reasons: one line for every requirement that is not met, in the order of the fields above.
        caveats: one line for every way in which the scores do not measure this erasure by efface's own rule.
        concept: the concept that the scores measure, where the erasure has several; else empty.
    """

    erasure: ErasureVerdict
    retention: RetentionVerdict
    attack: str
    reasons: tuple[str, ...] = ()
    caveats: tuple[str, ...] = ()
    concept: str = ""

    @classmethod
    def of(cls, scores: Iterable[Score], thresholds: Thresholds | None = None, caveats: Iterable[str] = ()) -> Verdict:
        """Computes the verdict on scores; it has these caveats and those of the scores and the thresholds.

        It reads ``rer`` and ``abstention_rate`` of name and domain, ``retention`` of context, near and other, and every
        ``asr_post``, whose group is the attack's label. A missing score leaves its finding inconclusive.
        """
        limits = thresholds or Thresholds()
        table = {(score.metric, score.group): score for score in scores}
        destroyed, destroyed_reasons = decide_destroyed(table, limits)
        erasure, erasure_reasons = decide_erasure(table, limits, destroyed)
        retention, retention_reasons = decide_retention(table, limits)
        attacks = [score for score in table.values() if score.metric == "asr_post"]
        attack, attack_reasons = decide_attacks(attacks, limits, destroyed)
        reasons = (*destroyed_reasons, *erasure_reasons, *retention_reasons, *attack_reasons)
        return cls(erasure, retention, attack, reasons, (*_caveats(table.values(), limits), *caveats))

    @property
    def passed(self) -> bool:
        """Whether the concept is erased, the rest is kept, and the erasure withstands at least one attack and all.

        An erasure that was not attacked has not passed, and a verdict with a caveat never has.
        """
        return (self.erasure, self.retention, self.attack) == ("erased", "kept", "withstands") and not self.caveats

    @property
    def findings(self) -> str:
        """The three findings, such as ``erased, kept, attacks inconclusive``, after `concept` if it is given."""
        texts = (f"{part} {word}" if word == "inconclusive" else word for part, word in self.parts.items())
        return (f"{self.concept}: " if self.concept else "") + ", ".join(texts)

    @property
    def parts(self) -> dict[str, str]:
        """The three findings by name."""
        return {"erasure": self.erasure, "retention": self.retention, "attacks": self.attack}

    @property
    def headline(self) -> str:
        """The findings and caveats, such as ``erased, kept, not attacked; limited to 48 images per group``."""
        return "; ".join((self.findings, *self.caveats))

    def summary(self) -> str:
        """Returns text such as ``not erased, kept, not attacked (rer/name 0.10 [0.01, 0.19] n=120 misses 0.8)``."""
        why = f" ({'; '.join(self.reasons)})" if self.reasons else ""
        return f"{self.headline}{why}"


def _caveats(scores: Iterable[Score], limits: Thresholds) -> tuple[str, ...]:
    mismatches = [str(score.provenance.extra.get(BENCHMARK_MISMATCH, "")) for score in scores]
    own_thresholds = () if limits == Thresholds() else ("with other thresholds than efface's own",)
    return (*dict.fromkeys(text for text in mismatches if text), *own_thresholds)
