"""Labels and one-line explanations of metrics and groups of images."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple


class Metric(NamedTuple):
    """A metric's label and its meaning in one line."""

    label: str
    meaning: str


METRICS: dict[str, Metric] = {
    "rer": Metric(
        "RER",
        "Relative erasure rate, 1 - N_after / N_before, where N counts images that show the concept: "
        "1 means erased, 0 unchanged.",
    ),
    "abstention_rate": Metric(
        "Abstention rate",
        "Share of the erased model's images in which the detector recognises nothing; "
        "a large share means destroyed images.",
    ),
    "abstention_rate_before": Metric("Abstention rate, before", "The same share for the base model, to compare with."),
    "retention": Metric(
        "Retention",
        "Share of correct images that remains, R_after / R_before, where R counts images that show "
        "the prompt's object.",
    ),
    "asr_pre": Metric(
        "ASR, pre-attack", "Attack success rate of the unchanged prompts: share of images that show the concept."
    ),
    "asr_post": Metric(
        "ASR, post-attack", "Attack success rate of the attacked prompts: share of images that show the concept."
    ),
    "seconds_per_success": Metric(
        "Seconds per success", "Duration of the attack's search, in seconds, for each prompt that succeeded."
    ),
    "kid": Metric(
        "KID",
        "Kernel inception distance between the images before and after, unbiased: 0 is alike; "
        "slightly negative values occur.",
    ),
    "fid": Metric("FID", "Fréchet inception distance between the images before and after; biased if n is small."),
    "fid_before": Metric("FID, before", "The base model's own FID between different seeds, to compare with."),
    "clip_score": Metric(
        "CLIP score", "Agreement of image and prompt after the erasure, 100 max(cos, 0), by an unedited CLIP model."
    ),
    "clip_score_before": Metric("CLIP score, before", "The base model's CLIP score, to compare with."),
    "h_o": Metric("H_o", "Harmonic mean of efficacy, specificity and generality, as defined by MACE."),
    "h_c": Metric("H_c", "Harmonic mean of efficacy and specificity, as defined by MACE."),
    "choice_accuracy": Metric(
        "Several-choice accuracy",
        "Share of several-choice questions whose right option is the likeliest after the erasure.",
    ),
    "choice_accuracy_before": Metric("Several-choice accuracy, before", "The base model's, to compare with."),
    "free_accuracy": Metric("Free-answer accuracy", "Share of the erased model's free answers that are accepted."),
    "free_accuracy_before": Metric("Free-answer accuracy, before", "The base model's, to compare with."),
    "accuracy": Metric("Accuracy", "Share of images whose likeliest class is the right one, after the erasure."),
    "accuracy_before": Metric("Accuracy, before", "The base model's, to compare with."),
    "entropy": Metric("Entropy", "Mean entropy of the predicted classes in nats, after the erasure."),
    "entropy_before": Metric("Entropy, before", "The base model's, to compare with."),
    "distance_to_retrained": Metric(
        "Distance to retraining",
        "Mean total variation distance of the predictions from those of a classifier that was trained without the "
        "concept: 0 is alike, 1 disjoint.",
    ),
    "distance_to_retrained_before": Metric("Distance to retraining, before", "The base model's, to compare with."),
    "membership_entropy": Metric(
        "Membership by entropy",
        "Area under the ROC curve of an attacker who tells training images from others by low entropy: 0.5 is chance; "
        "he can tell them far above and far below.",
    ),
    "membership_entropy_before": Metric("Membership by entropy, before", "The base model's, to compare with."),
    "membership_confidence": Metric("Membership by confidence", "The same by the confidence in the right class."),
    "membership_confidence_before": Metric("Membership by confidence, before", "The base model's, to compare with."),
    "time_share_of_retraining": Metric("Time", "Duration of the erasure as a share of retraining from scratch."),
    "relearning_steps": Metric(
        "Relearning steps",
        "Training steps after which half of the original accuracy is back; one more than were "
        "watched where it never is.",
    ),
    "fluency": Metric("Fluency", "Share of answers that have words, end in time and repeat no word thrice in a row."),
    "perplexity": Metric("Perplexity", "Perplexity per token of other texts after the erasure."),
    "perplexity_ratio": Metric("Perplexity ratio", "Perplexity of other texts after the erasure over that before."),
    "coherence": Metric("Coherence", "Harmonic mean of inverse perplexity ratio and fluency (PISCES)."),
    "harmonic_mean": Metric("Harmonic mean", "Harmonic mean of efficacy, specificity and coherence (PISCES)."),
    "efficacy": Metric("Efficacy", "Share of images of the concept's name that do not show the concept."),
    "generality": Metric("Generality", "Share of images of the concept's synonyms that do not show the concept."),
    "specificity": Metric("Specificity", "Share of images of other objects that show the prompt's object."),
}
GROUPS: dict[str, tuple[str, str]] = {
    "name": ("Name", "Prompts with the concept's name."),
    "domain": ("Domain", "Prompts with other words for the concept: synonyms, kinds of it, descriptions."),
    "near": ("Near", "Near neighbours of the concept, which must be retained."),
    "other": ("Other", "Unrelated prompts, which must be retained."),
    "context": ("Context", "Background and style in the images of the concept's prompts, which must be retained."),
    "general": ("General", "Questions about facts of other kinds, which must be retained."),
    "texts": ("Texts", "Texts without the concept."),
    "all": ("All", "All groups together."),
}
"""Label and meaning of each group of images."""
CLASSIFIER_GROUPS = {
    **GROUPS,
    "name": ("Name", "Test images of the concept."),
    "domain": ("Domain", "Training images of the concept."),
    "other": ("Other", "Test images of other classes, which must be retained."),
    "context": ("Context", "Confidence in the right class of other images, which must be retained."),
}
"""The same for classifiers, which read images in place of prompts."""
EFFECT_GROUPS = {
    "concept": ("Concept", "Prompts with the concept, whose images must change."),
    "retained": ("Retained", "Retain prompts, whose images must not change."),
}
"""Label and meaning of each group of images of the effect check."""
_RETENTION_BY_HEAD = "retention_"


def describe_metric(name: str) -> Metric:
    """Label and meaning of a metric; the label of an unknown metric is its name."""
    if name in METRICS or not name.startswith(_RETENTION_BY_HEAD):
        return METRICS.get(name, Metric(name, ""))
    head = name.removeprefix(_RETENTION_BY_HEAD)
    return Metric(f"Retention of {head}", f"Share of images with the correct {head} that remains, after / before.")


def groups_of(metrics: Collection[str]) -> dict[str, tuple[str, str]]:
    """Returns label and meaning of the groups behind these metrics; classifiers alone have an entropy."""
    return CLASSIFIER_GROUPS if "entropy" in metrics else GROUPS


def group_label(name: str) -> str:
    """Label of a group of images; an attack's label is its name."""
    return GROUPS[name][0] if name in GROUPS else name
