"""``efface coreferences``: its file, its advice and its refusals."""

from __future__ import annotations

import json

from helpers.cli import call, check_refused

from efface.core.concept import Concept
from efface.core.coreferences import read_coreferences


def test_it_writes_a_file_for_crce(capfd, tmp_path, model_folder):
    path = tmp_path / "words.yaml"
    command = ("coreferences", "gun", "--model", model_folder, "--count", 1, "--images", 4, "--out", path)
    output = call(capfd, *command).out
    assert f"efface erase gun --method crce --set coreference_file={path}" in output
    assert set(read_coreferences(path, [Concept("gun")])) == {"gun"}
    check_refused(call(capfd, *command), "exists", "--overwrite")
    shown = json.loads(call(capfd, *command, "--overwrite", "--json").out)
    assert set(shown["concepts"]["gun"]) == {"coreferents", "retained"}


def test_an_endpoint_that_cannot_be_reached_is_refused(capfd, tmp_path):
    command = ("coreferences", "gun", "--out", tmp_path / "w.yaml", "--endpoint", "http://127.0.0.1:9/v1")
    check_refused(
        call(capfd, *command, "--language-model", "small"), "cannot reach http://127.0.0.1:9/v1", "vocabulary"
    )
    check_refused(call(capfd, *command), "--language-model")
