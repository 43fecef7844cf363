"""Groups are explained in the words of the kind of model that was measured."""

from __future__ import annotations

from efface.reporting.labels import groups_of


def test_a_classifiers_groups_are_images_and_an_image_models_are_prompts():
    assert groups_of({"rer", "retention", "kid"})["name"][1] == "Prompts with the concept's name."
    classifier = groups_of({"rer", "accuracy", "entropy"})
    assert classifier["name"][1] == "Test images of the concept."
    assert classifier.keys() == groups_of(()).keys()
