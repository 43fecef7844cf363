"""The groups of images of a classifier benchmark."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from efface.core.errors import EffaceError
from efface.models.classifier import ClassifierModel
from efface.ops.classifiers.forget_sets import concept_classes, forget_split, images_to_forget, shows, training_images
from efface.ops.classifiers.image_set import ImageSet

from .benchmark import NUM_OTHER, ClassifierBenchmark

NAME, SEEN, NEAR, OTHER = "name", "domain", "near", "other"
"""Test images of the concept; its training images; test images of near classes; of all other classes."""


@dataclass(frozen=True)
class BenchmarkImages:
    """The images of a benchmark.

    Attributes:
        groups: the images by group; groups without images are absent.
        retain: training images that the model keeps.
    """

    groups: dict[str, ImageSet]
    retain: ImageSet

    def limited(self, limit: int | None) -> BenchmarkImages:
        """Returns at most ``limit`` images of a group."""
        return BenchmarkImages({name: s.limited(limit) for name, s in self.groups.items()}, self.retain.limited(limit))


@dataclass(frozen=True)
class _Folders:
    images: str
    forget_images: str


def benchmark_images(benchmark: ClassifierBenchmark, model: ClassifierModel) -> BenchmarkImages:
    """Returns the images of a benchmark.

    The images of single samples are both the concept's name and its training images: they have no test images.

    Raises:
        EffaceError: a folder is missing, a class is unknown, or no test image shows the concept.
    """
    concept = benchmark.concept
    split = forget_split(model, [concept], _Folders(benchmark.train, benchmark.forget))
    test = training_images(model, benchmark.test, "test")
    if concept.kind == "samples" or (benchmark.forget and not benchmark.forget_test):
        name, rest = split.forget, test
    elif benchmark.forget_test:
        name, rest = images_to_forget(Path(benchmark.forget_test), model), test
    else:
        chosen = shows(model, concept, test)
        name, rest = test.subset(chosen), test.subset([not show for show in chosen])
    if not len(name):
        raise EffaceError(f"no test image of {benchmark.name} shows {concept.name!r}: check its folder of test images")
    near = set(model.class_indices(benchmark.near))
    is_near = [label in near for label in rest.labels]
    groups = {
        NAME: name,
        SEEN: split.forget,
        NEAR: rest.subset(is_near),
        OTHER: rest.subset([not flag for flag in is_near]).limited(NUM_OTHER),
    }
    return BenchmarkImages({key: images for key, images in groups.items() if len(images)}, split.retain)


def forgotten_classes(benchmark: ClassifierBenchmark, model: ClassifierModel) -> list[int]:
    """Returns the classes that are forgotten as a whole; none for a style and for samples."""
    if benchmark.concept.kind in ("style", "samples") or benchmark.forget:
        return []
    return concept_classes(model, benchmark.concept)
