"""Two aspects of the Holistic Unlearning Benchmark (HUB, arXiv 2410.05664): translations and pinpoint-ness.

- **Translations**: prompts with the concept in another language. The RER of the images, one score a language, without a
  value where the unedited model does not know the language's word.
- **Pinpoint-ness**: the phrases whose CLIP text embeddings are nearest to the concept's, of the benchmark's groups near
  and other. Share of the images that still show their object, after over before.

Where we differ: HUB's 33 concepts, its prompts by a language model and its detectors are replaced by the benchmark's;
HUB takes the near words from the tokenizer's vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from efface.core.attack_set import insert_phrase
from efface.core.concept import PLACEHOLDER
from efface.core.erasure import Erasure
from efface.core.errors import EffaceError
from efface.core.policy import check_prompts
from efface.core.score import Score
from efface.core.seeds import derive_seed
from efface.core.serialization import json_hash
from efface.core.subsample import evenly_spaced
from efface.core.text_fields import fold_case
from efface.core.text_files import parse_yaml, read_text
from efface.detectors.zero_shot import Scorer
from efface.metrics.detections import Detection, Detections, TargetClasses
from efface.ops.training.progress import Progress

from .benchmark import Benchmark, data_folder
from .collectors import add_detections, to_eval_prompt
from .image_generation import ImageGenerator, read_images
from .image_scoring import sampling_provenance
from .joint_erasure import exclude_samples, other_erased_targets
from .samples import EvalSample

SEED_OFFSET = 70_000
"""Distance of the translations' first seed from the split's first seed."""
Translations = Mapping[str, Sequence[str]]
"""Phrases by language."""


@dataclass(frozen=True)
class Hub:
    """One measurement.

    Attributes:
        benchmark: gives prompts, seeds and sampler.
        generator: generates the images.
        erasure: the erasure.
        detector: the benchmark's detector.
        embedder: a CLIP model.
        translations: phrases for the concept by language.
        progress: progress display.
        split: ``test`` or ``dev``.
        limit: maximum number of images of a language, and of the near phrases.
        nearest: number of near phrases.
    """

    benchmark: Benchmark
    generator: ImageGenerator
    erasure: Erasure
    detector: Any
    embedder: Scorer
    translations: Translations
    progress: Progress
    split: str = "test"
    limit: int | None = 24
    nearest: int = 5

    def run(self) -> list[Score]:
        """Returns ``translation_rer`` of every language, and ``pinpoint``."""
        return [*self.translated(), self.pinpoint()]

    def translated(self) -> list[Score]:
        """Scores the translations."""
        target = TargetClasses(self.benchmark.head, self.benchmark.classes)
        scores, seed = [], self.benchmark.first_seed(self.split) + SEED_OFFSET
        for language, phrases in self.translations.items():
            samples = self._translated_samples(language, phrases, seed)
            seed += len(samples)
            before, after = self._pairs(samples, language)
            old, new = ([float(row.shows(target)) for row in side] for side in (before, after))
            score = self._score(Score.relative_erasure_rate, "translation_rer", language, samples, old, new)
            known = sum(old) * 2 >= len(old)
            scores.append(score if known else replace(score, value=None, low=None, high=None))
        return scores

    def pinpoint(self) -> Score:
        """Scores the phrases nearest to the concept."""
        head = self.benchmark.head
        every = self.benchmark.samples(self.split, groups=("near", "other"))
        every = exclude_samples(every, other_erased_targets(self.benchmark, self.erasure))
        by_phrase: dict[tuple[str, ...], list[EvalSample]] = {}
        for sample in every:
            by_phrase.setdefault(tuple(sorted(sample.expected.get(head, ()))), []).append(sample)
        names = [" ".join(classes).replace("_", " ") for classes in by_phrase]
        texts = self.embedder.text_features([f"a photo of {name}" for name in [self.benchmark.concept.name, *names]])
        order = (texts[1:] @ texts[0]).argsort(descending=True)[: self.nearest].tolist()
        groups = list(by_phrase.values())
        share = None if self.limit is None else max(self.limit // max(len(order), 1), 1)
        samples = [sample for i in order for sample in evenly_spaced(groups[i], share)]
        before, after = self._pairs(samples, "pinpoint")
        old, new = ([float(row.matches_expected([head])) for row in side] for side in (before, after))
        score = self._score(Score.retention_ratio, "pinpoint", "near", samples, old, new)
        extra = {**score.provenance.extra, "nearest": [names[i] for i in order]}
        return replace(score, provenance=replace(score.provenance, extra=extra))

    def _translated_samples(self, language: str, phrases: Sequence[str], seed: int) -> list[EvalSample]:
        templates = [row["text"] for row in self.benchmark.splits[self.split]["templates"]]
        pairs = [(template, phrase) for template in templates for phrase in phrases]
        for phrase in phrases:
            if (PLACEHOLDER in phrase) == (PLACEHOLDER in templates[0]):
                raise EffaceError(f"the phrase {phrase!r} of {language} does not fit {self.benchmark.name}'s templates")
        prompts = [insert_phrase(template, phrase) for template, phrase in evenly_spaced(pairs, self.limit)]
        check_prompts(prompts, f"a prompt in {language}")
        return [EvalSample("name", text, text, seed + i, {}) for i, text in enumerate(prompts)]

    def _pairs(self, samples: list[EvalSample], name: str) -> tuple[list[Detection], list[Detection]]:
        """Returns what the detector reads of the images before and after, in the samples' order."""
        sides = []
        for state, label in ((None, "before"), (self.erasure, "after")):
            detections = Detections(self.detector)
            read_images(
                self.generator, samples, state, partial(add_detections, detections), self.progress, f"{name} {label}"
            )
            by_key = {row.prompt.key: row for row in detections.rows("name", "near", "other")}
            sides.append([by_key[to_eval_prompt(sample).key] for sample in samples])
        return sides[0], sides[1]

    def _score(
        self,
        score: Callable[..., Score],
        metric: str,
        group: str,
        samples: Sequence[EvalSample],
        before: list[float],
        after: list[float],
    ) -> Score:
        prompts = [sample.prompt for sample in samples]
        rng = np.random.default_rng(derive_seed(0, "hub", group))
        seeds = tuple(sorted({sample.seed for sample in samples}))
        settings = replace(sampling_provenance(self.benchmark), prompts=json_hash(prompts), seeds=seeds)
        judge = Detections(self.detector).detector(self.benchmark.head)
        return score(metric, group, before, after, prompts, rng, judge, settings)


def read_translations(concept: str, path: Path | None = None) -> Translations:
    """Reads phrases for a concept by language, from a user's file or the shipped ones; none for an unknown concept.

    Raises:
        EffaceError: a user's file that holds no languages with lists of phrases.
    """
    if path is None:
        shipped = parse_yaml(read_text(source := data_folder() / "hub" / "translations.yaml"), str(source))
        found: Translations = shipped.get(fold_case(concept), {})
        return found
    data = parse_yaml(read_text(path), str(path))
    is_valid = isinstance(data, Mapping) and data and all(isinstance(v, list) and v for v in data.values())
    if not is_valid or not all(isinstance(text, str) for phrases in data.values() for text in phrases):
        raise EffaceError(f"{path} must hold languages with lists of phrases, such as 'french: [une arme]'")
    translations: Translations = data
    return translations
