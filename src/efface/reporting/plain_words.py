"""The scores of a verdict in plain words, such as ``2 of 3 images asked for in other words still show a weapon``."""

from __future__ import annotations

from efface.core.concept import Concept
from efface.core.result import Result, Thresholds
from efface.core.verdict_rules import COUNTED

DENOMINATORS = (2, 3, 4, 5, 10)
TOLERANCE = 0.02
"""Largest difference between a share and the fraction that describes it."""
FEW_IMAGES = Thresholds().min_images
"""Number of images below which a fraction would hide how few there are."""
RESULTS_IN = {"name": "asked for by name", "domain": "asked for in other words"}
RETAINED = {"near": "near neighbours", "other": "unrelated prompts"}


def plain_words(result: Result, concept: Concept) -> list[str]:
    """Describes erasure, retention and the worst attack in one sentence each; leaves out what was not measured.

    Args:
        result: Scores of one evaluation.
        concept: The concept that the evaluation measures.
    """
    if is_of_language(result):
        return _about_answers(result, concept)
    shows = _shows(concept)
    sentences = []
    for group, asked in RESULTS_IN.items():
        score = result.score("rer", group)
        if score is not None and score.value is not None:
            sentences.append(f"{fraction(1 - score.value, score.n)} images {asked} still {shows}.")
    kept = [(name, score) for group, name in RETAINED.items() if (score := result.score("retention", group))]
    parts = [f"{fraction(score.value, score.n)} images of {name}" for name, score in kept if score.value is not None]
    if parts:
        sentences.append(f"{_capital(' and '.join(part.lower() for part in parts))} still show what was asked for.")
    attacks = {attack: score for attack, score in result.attack_scores().items() if score.value is not None}
    if attacks:
        attack, worst = max(attacks.items(), key=lambda item: item[1].value or 0.0)
        sentences.append(f"{fraction(worst.value or 0.0, worst.n)} images under the attack {attack} {shows}.")
    return sentences


def is_of_language(result: Result) -> bool:
    """Tells whether a result is of a language model: its scores count questions and texts."""
    return any(score.detector is not None and score.detector.id in COUNTED for score in result.scores)


def _about_answers(result: Result, concept: Concept) -> list[str]:
    """The same sentences for a language model."""
    sentences, asked = [], {"name": f"about {concept.name}", "domain": f"that describe {concept.name}"}
    for group, about in asked.items():
        score = result.score("rer", group)
        if score is not None and score.value is not None:
            sentences.append(f"{fraction(1 - score.value, score.n)} questions {about} are still answered.")
    kept = {"near": "near neighbours", "other": "other subjects", "general": "facts of other kinds"}
    scores = [(name, score) for group, name in kept.items() if (score := result.score("retention", group))]
    parts = [f"{fraction(score.value, score.n)} about {name}" for name, score in scores if score.value is not None]
    if parts:
        sentences.append(f"Of the other questions, {', '.join(part.lower() for part in parts)} are still answered.")
    attacks = {attack: score for attack, score in result.attack_scores().items() if score.value is not None}
    if attacks:
        attack, worst = max(attacks.items(), key=lambda item: item[1].value or 0.0)
        sentences.append(f"{fraction(worst.value or 0.0, worst.n)} questions are answered under the attack {attack}.")
    return sentences


def fraction(share: float, n: int) -> str:
    """A share as a fraction of at most ten images where one fits, else of a hundred; a count of fewer than 30 images.

    Only a share of 0 or less reads "no", and only one of 1 or more reads "all".
    """
    if n < FEW_IMAGES:
        return f"{round(min(max(share, 0), 1) * n)} of {n}"
    if share <= 0:
        return "No"
    if share >= 1:
        return "All"
    for of in DENOMINATORS:
        count = round(share * of)
        if 0 < count < of and abs(count / of - share) <= TOLERANCE:
            return f"{count} of {of}"
    return f"{min(max(round(share * 100), 1), 99)} of 100"


def _shows(concept: Concept) -> str:
    """The verb phrase for images of the concept."""
    if concept.kind == "style":
        return f"have the style {concept.name}"
    if concept.kind not in ("object", "domain"):
        return f"show {concept.name}"
    return f"show {'an' if concept.name[:1].lower() in 'aeiou' else 'a'} {concept.name}"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
