"""Labels of attack sets."""

from __future__ import annotations

from efface.core.attack_label import MAX_LENGTH, attack_label, attack_of


def test_a_label_names_the_attack_and_the_settings() -> None:
    assert attack_label("synonyms", {}) == "synonyms"
    assert attack_label("inside_out", {"steps": 100, "seed": 1, "limit": 4}) == "inside_out-steps-100-seed-1-limit-4"


def test_other_settings_have_other_labels_that_are_file_names() -> None:
    settings = [
        {}, {"phrases": ["a", "b"]}, {"phrases": ["a, b"]}, {"phrases": ["a"]}, {"detector": "imagenet:x/y"},
        {"text": "x" * 200}, {f"field_{i}": i for i in range(20)}, {f"field_{i}": i + 1 for i in range(20)},
    ]  # fmt: skip
    labels = [attack_label("synonyms", item) for item in settings]
    assert len(set(labels)) == len(settings)
    assert all(len(label) <= MAX_LENGTH and "/" not in label for label in labels)
    assert {attack_of(label) for label in labels} == {"synonyms"}
