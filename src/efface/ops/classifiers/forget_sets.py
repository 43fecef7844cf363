"""The images that a method forgets and those that it keeps, chosen by the concepts.

A class is a concept whose name, or whose synonyms, are classes of the model. Styles and single images are given as a
folder; pocket-classifier knows its own styles and the images of its owners ("owner 7").
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from efface.core.concept import Concept
from efface.core.errors import EffaceError, UnknownNameError
from efface.core.text_fields import fold_case
from efface.models.classifier import ClassifierModel
from efface.models.classifier_folder import CLASSIFIER_BUNDLED
from efface.pocket_world.labelled_images import selection

from .image_set import UNKNOWN, ImageSet, files_below, folder_images
from .pocket_images import PocketImages, pocket_images

EMPTY = ImageSet((), ())


class ImageSettings(Protocol):
    """The settings of a method that decide its images."""

    @property
    def images(self) -> str:
        """Folder of training images with one subfolder a class; empty for the model's own images."""
        ...

    @property
    def forget_images(self) -> str:
        """Folder of the images to forget; the concepts choose among the training images if empty."""
        ...


@dataclass(frozen=True)
class ForgetSplit:
    """The images to forget, and all other training images, of which there are none if no folder gives them."""

    forget: ImageSet
    retain: ImageSet

    def required_retain(self) -> ImageSet:
        """Returns the images to keep.

        Raises:
            EffaceError: there are none.
        """
        if not len(self.retain):
            raise EffaceError("this method needs images to keep: give the training images (--set images=FOLDER)")
        return self.retain


def forget_split(model: ClassifierModel, concepts: Sequence[Concept], settings: ImageSettings) -> ForgetSplit:
    """Returns the images to forget and to keep.

    Raises:
        EffaceError: a folder is missing or empty, or a concept is no class, style or owner.
    """
    if settings.forget_images:
        everything = training_images(model, settings.images) if settings.images else EMPTY
        return _without(everything, images_to_forget(Path(settings.forget_images), model))
    everything = training_images(model, settings.images)
    chosen = [False] * len(everything)
    for concept in concepts:
        chosen = [a or b for a, b in zip(chosen, shows(model, concept, everything), strict=True)]
    if not any(chosen):
        raise EffaceError(f"no training image shows {concepts[0].name!r}: check the folder of images")
    return ForgetSplit(everything.subset(chosen), everything.subset([not forget for forget in chosen]))


def training_images(model: ClassifierModel, folder: str, split: str = "train") -> ImageSet:
    """Returns the images of a folder, or the model's own.

    Raises:
        EffaceError: no folder is given, and the model has no images of its own.
    """
    if folder:
        return folder_images(Path(folder), model)
    if model.name not in CLASSIFIER_BUNDLED:
        raise EffaceError(
            f"{model.name} brings no images: give its training images, one subfolder for each class (--set "
            "images=FOLDER), or the images to forget (--set forget_images=FOLDER)"
        )
    return pocket_images(split)


def shows(model: ClassifierModel, concept: Concept, images: ImageSet) -> list[bool]:
    """Returns for every image whether it shows a concept.

    Raises:
        EffaceError: the concept is no class of the model, and no style or owner that the images state.
    """
    chosen = selection(concept.kind, concept.name)
    if concept.kind in ("style", "samples"):
        if chosen is None or not isinstance(images, PocketImages):
            raise EffaceError(
                f"the images do not state which show the {concept.kind} {concept.name!r}: give a folder of them (--set "
                "forget_images=FOLDER)"
            )
        return [chosen(scene) for scene in images.scenes]
    classes = set(concept_classes(model, concept))
    return [label in classes for label in images.labels]


def concept_classes(model: ClassifierModel, concept: Concept) -> list[int]:
    """Returns the classes of a concept: its synonyms, and its name if that is a class.

    Raises:
        UnknownNameError: one of them is no class.
    """
    known = {fold_case(name) for name in model.classes}
    words = [w for w in concept.words if w != concept.name or fold_case(w) in known or not concept.synonyms]
    if not concept.synonyms and fold_case(concept.name) not in known:
        text = f"class of {model.name} (a group of classes is named by --synonym CLASS, repeated)"
        raise UnknownNameError(text, concept.name, model.classes)
    return model.class_indices(words)


def images_to_forget(folder: Path, model: ClassifierModel) -> ImageSet:
    """Returns all images of a folder; those in a subfolder named like a class have its label.

    Raises:
        EffaceError: the folder does not exist or holds no images.
    """
    files = files_below(folder) if folder.is_dir() else []
    if not files:
        raise EffaceError(f"{folder} holds no images to forget: give a folder of PNG, JPEG or WebP files")
    known = {fold_case(name): index for index, name in enumerate(model.classes)}
    labels = [known.get(fold_case(path.parent.name.replace("_", " ")), UNKNOWN) for path in files]
    return ImageSet(files, tuple(labels))


def _without(everything: ImageSet, forget: ImageSet) -> ForgetSplit:
    """Removes the files to forget from all images; both sets may name one file by different paths."""
    files = {path.resolve() for path in forget.sources if isinstance(path, Path)}
    kept = [not (isinstance(item, Path) and item.resolve() in files) for item in everything.sources]
    return ForgetSplit(forget, everything.subset(kept))
