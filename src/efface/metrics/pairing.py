"""Pairs of detections: the same prompt and seed on two models, such as before and after an erasure."""

from __future__ import annotations

from collections.abc import Sequence

from .detections import Detection, Detections


def paired_detections(
    before: Detections, after: Detections, groups: Sequence[str]
) -> list[tuple[Detection, Detection]]:
    """Match the detections of both models by group, prompt and seed, in the order of `before`.

    Args:
        before: detections of the first model.
        after: detections of the second model.
        groups: which groups to match.

    Returns:
        The pairs; empty where either model has no images of these groups.

    Raises:
        ValueError: an image without a partner, different expected classes, or different detectors or thresholds.
    """
    old = before.rows(*groups)
    new = {row.prompt.key: row for row in after.rows(*groups)}
    if not old or not new:
        return []
    pairs = [(row, new[row.prompt.key]) for row in old if row.prompt.key in new]
    if len(pairs) < max(len(old), len(new)):
        counts = f"{len(old)} images before and {len(new)} after"
        raise ValueError(f"{', '.join(groups)}: {counts}, of which {len(pairs)} have a partner")
    for first, second in pairs:
        if first.prompt != second.prompt:
            classes = f"{first.prompt.expected_classes} before and {second.prompt.expected_classes} after"
            raise ValueError(f"{first.prompt.key} expects {classes}")
    if before.detector() != after.detector() or before.thresholds != after.thresholds:
        raise ValueError("before and after were judged by different detectors or with different thresholds")
    return pairs
