"""The parts of `full_size.py` that time closed-form methods for many concepts."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

from clocks import Clock, Peak
from full_size_budget import OutOfTimeError
from full_size_parts import Bench
from full_size_timing import CONCEPT, NOUNS, number

from efface.core.concept import Concept
from efface.core.spec import RunSpec
from efface.core.subsample import evenly_spaced
from efface.ops.training.run import Run

CLOSED_FORMS = (("uce", "paper"), ("rece", "paper"), ("speed", "celebrities"))
"""Closed-form methods with the presets for a hundred concepts."""
COUNTS = (1, 100, 1000)


class ClosedFormBench(Bench):
    """The parts of `Bench`, and those of closed-form methods."""

    def closed_forms(self) -> dict[str, Any]:
        """Closed-form methods from words to the erasure's tensors, solved on the CPU in float64; MACE for one word."""
        found, words = dict[str, Any](), self.words(max(COUNTS))
        for count in COUNTS:
            for name, preset in CLOSED_FORMS:
                if (name, count) != ("rece", max(COUNTS)):  # a part of its own: `many_concepts`
                    self.erase_words(found, name, preset, words[:count])
        self.erase_words(found, "mace", "paper", words[:1])
        return found

    def many_concepts(self) -> dict[str, Any]:
        """RECE for the largest number of words; the products of all their tokens take about 47 GB on the CPU."""
        found = dict[str, Any]()
        self.erase_words(found, "rece", "paper", self.words(max(COUNTS)))
        return found

    def words(self, count: int) -> list[str]:
        """Words of the vocabulary, none of which is in a retain prompt; the same in every call."""
        excluded = {"photo", *NOUNS}
        words = [w for w in self.model.vocabulary_words() if w.isascii() and w.isalpha() and len(w) > 3]
        return evenly_spaced([w for w in dict.fromkeys(words) if w not in excluded], count)

    def erase_words(self, found: dict[str, Any], name: str, preset: str, words: list[str]) -> None:
        """Add the duration of one run of a method that erases words."""
        concepts = [Concept(word, retain_prompts=CONCEPT.retain_prompts) for word in words]
        module = import_module(f"efface.methods.{name}")
        self.say(f"{name}, {len(words)} concepts")

        def erase() -> dict[str, Any]:
            peak, clock = Peak(self.model.device), Clock(self.model.device)
            run = Run(device=self.model.device, spec=RunSpec(self.model.name, {}, name, {}, tuple(concepts)))
            with clock.measure("run"):
                getattr(module, name)(self.model, concepts, module.Config(**module.PRESETS[preset]), run)
            source = f"{len(concepts)} concepts, preset {preset}"
            return number(clock.seconds["run"], False, source, peak.gigabytes())

        self.attempt(found, f"{name}_{len(words)}", erase)

    def attempt(self, found: dict[str, Any], name: str, measure: Callable[[], dict[str, Any]]) -> None:
        """Add a row to a part; a failure is recorded and the other rows are measured."""
        try:
            found[name] = measure()
        except OutOfTimeError:
            raise
        except Exception as error:
            found[name] = {"not_measured": f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"}
            self.say(f"{name}: {found[name]['not_measured']}")
        self.keep(found)
