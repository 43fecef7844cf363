"""Check that a user's images show the concept, before an attack learns or starts from them."""

from __future__ import annotations

from pathlib import Path

from efface.core.errors import EffaceError
from efface.metrics.detections import Detections, EvalPrompt, TargetClasses
from efface.models.editable import EditableModel
from efface.ops.training.image_folder import read_images

from .benchmark import Benchmark
from .collectors import check_image_size
from .detector_loading import load_detector

LEAST_SHARE = 0.5
"""Share of the images that must show the concept; detectors err, and images of it may be hard."""


def check_concept_images(benchmark: Benchmark, model: EditableModel, folder: str | Path) -> None:
    """Asks the benchmark's detector whether a folder's images show the concept.

    Args:
        benchmark: has the concept and the detector.
        model: the model, whose images have the size that these must have.
        folder: the folder.

    Raises:
        EffaceError: the concept is in fewer than half of the images, or the folder or an image cannot be read.
    """
    check_image_size(model, benchmark)
    images = read_images(Path(folder), model.image_size)
    detections = Detections(load_detector(benchmark, model.device))
    for number, image in enumerate(images):
        detections.update(image[None], [EvalPrompt("", number, "image", {})])
    target = TargetClasses(benchmark.head, benchmark.classes)
    shown = sum(row.shows(target) for row in detections.rows("image"))
    if shown < LEAST_SHARE * len(images):
        raise EffaceError(
            f"{folder} shows {benchmark.concept.name} in {shown} of {len(images)} images, says {benchmark.detector}: "
            "keep those that show it, or name another --detector"
        )
