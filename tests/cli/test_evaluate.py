"""``efface evaluate`` and ``efface attack`` on an erasure of a tiny model."""

from __future__ import annotations

import shutil
from importlib import import_module

import pytest
from helpers.cli import MISMATCH, call, check_refused, content, tiny_folder

from efface.core.erasure import Erasure
from efface.core.errors import BaseModelMismatchError
from efface.models.loading import load_model
from efface.ops.editing.apply import applied, apply


@pytest.mark.parametrize("command", ["evaluate", "attack"])
def test_another_base_is_refused_with_its_distance(command, capfd, tmp_path, erasure_folder):
    other = tiny_folder(tmp_path / "other", seed=1)
    shutil.copytree(erasure_folder, tmp_path / "e")
    before = content(tmp_path)
    output = call(
        capfd, command, tmp_path / "e", "--benchmark", "pocket-weapon", *MISMATCH, "--limit", "1", "--model", other
    )
    check_refused(output, "other is not the base of this erasure", "% from the one", "--allow-base-mismatch")
    assert output.out == ""
    assert content(tmp_path) == before


def test_applying_to_another_base_records_its_distance(tmp_path, model_folder, erasure_folder):
    other, erasure = load_model(tiny_folder(tmp_path / "other", seed=1)), Erasure.load(erasure_folder)
    with pytest.raises(BaseModelMismatchError, match=r"\d+\.\d% from"):
        apply(other, erasure)
    with applied(other, erasure, allow_base_mismatch=True) as record:
        assert record.base_mismatch
        assert all(0.5 < distance < 2 for distance in record.distances.values() if distance is not None)
    with applied(load_model(model_folder), erasure) as record:
        assert not record.base_mismatch


@pytest.mark.parametrize(
    ("setting", "words"),
    [("phrase=a pistol", ("did you mean 'phrases'",)), ("phrases=,", ("list of texts", "','"))],
)
def test_an_attack_setting_that_does_not_fit(setting, words, capfd, tmp_path, model_folder, erasure_folder):
    shutil.copytree(erasure_folder, tmp_path / "e")
    before = content(tmp_path)
    options = (
        "--benchmark",
        "pocket-weapon",
        *MISMATCH,
        "--limit",
        "1",
        "--model",
        model_folder,
        "--allow-base-mismatch",
    )
    check_refused(call(capfd, "attack", tmp_path / "e", *options, "--allow-base-mismatch", "--set", setting), *words)
    assert content(tmp_path) == before


def test_images_are_cached_unless_the_option_says_otherwise(capfd, tmp_path, model_folder, erasure_folder, monkeypatch):
    requested = []

    def stop(*args: object) -> None:
        requested.append(args[-1])
        raise KeyboardInterrupt

    monkeypatch.setattr(import_module("efface.api.evaluate"), "build_generator", stop)
    for option in ((), ("--cache-images",), ("--no-cache-images",)):
        evaluate = ("evaluate", erasure_folder, "--benchmark", "pocket-weapon", *MISMATCH, "--model", model_folder)
        assert call(capfd, *evaluate, *option).code == 130
    assert requested == [True, True, False]
