"""Classifier benchmarks: what their hash covers, and how a file is told from those of other kinds."""

from __future__ import annotations

from pathlib import Path

from efface.benchmarks.classifier.benchmark import ClassifierBenchmark, is_classifier_benchmark

FIELDS = "name: mine\nversion: 1\ndescription: mine\nmodel: any\nconcept: {name: cat, kind: class}\n"


def write(folder: Path, text: str) -> str:
    path = folder / "mine.yaml"
    path.write_text(text)
    return str(path)


def test_the_hash_covers_the_files_in_the_folders(tmp_path: Path) -> None:
    (tmp_path / "images" / "cat").mkdir(parents=True)
    (tmp_path / "images" / "cat" / "1.png").write_bytes(b"1")
    path = write(tmp_path, FIELDS + "test: images\n")
    hashes = [ClassifierBenchmark.load(path).hash]
    (tmp_path / "images" / "cat" / "2.png").write_bytes(b"2")
    hashes.append(ClassifierBenchmark.load(path).hash)
    (tmp_path / "images" / "cat" / "2.png").write_bytes(b"23")
    hashes.append(ClassifierBenchmark.load(path).hash)
    assert len(set(hashes)) == 3


def test_the_hash_does_not_depend_on_where_the_folder_is(tmp_path: Path) -> None:
    hashes = []
    for place in ("here", "there"):
        (tmp_path / place / "images").mkdir(parents=True)
        (tmp_path / place / "images" / "1.png").write_bytes(b"1")
        hashes.append(ClassifierBenchmark.load(write(tmp_path / place, FIELDS + "test: images\n")).hash)
    assert hashes[0] == hashes[1]


def test_files_of_other_kinds_are_told_apart(tmp_path: Path) -> None:
    assert is_classifier_benchmark("pocket-classifier-cat")
    assert not is_classifier_benchmark("pocket-weapon")
    assert is_classifier_benchmark(write(tmp_path, FIELDS))
    assert not is_classifier_benchmark(write(tmp_path, FIELDS + "questions: {}\ntexts: []\n"))
