"""``efface export`` on the command line."""

from __future__ import annotations

import json

import pytest
from helpers.cli import call, check_refused, content

from efface.exporters.formats import FORMATS


def test_every_format_of_weights(capfd, tmp_path, model_folder, erasure_folder):
    output = call(capfd, "export", erasure_folder, "--out", tmp_path / "d", "--model", model_folder, "--json")
    assert output.code == 0, output
    data = json.loads(output.out)
    assert (data["format"], data["folder"], data["base_mismatch"]) == ("diffusers", str(tmp_path / "d"), False)
    assert data["files"].keys() == {name for name, raw in content(tmp_path / "d").items() if raw is not None}
    assert "shards" not in output.err, "diffusers shows no progress bar of its own"
    for format in ("component", "single-file"):
        out = tmp_path / format
        output = call(capfd, "export", erasure_folder, "--format", format, "--out", out, "--model", model_folder)
        assert (output.code, output.out.splitlines()[-1]) == (0, str(out)), output
        assert (out / "README.md").is_file()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["component", "d", "single-file"]


def test_help_lists_every_format(capfd):
    text = call(capfd, "export", "--help").out
    assert all(format in text for format in FORMATS)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--format", "lora"), ("unknown export format 'lora'", "kohya")),
        (("--rank", "4"), ("a rank applies to the formats peft and kohya",)),
        (("--format", "kohya"), ("replaces whole tensors", "--rank 16")),
        (("--format", "peft", "--rank", "4"), ("a bias or a norm",)),
    ],
)
def test_a_format_that_does_not_fit_is_refused(options, words, capfd, tmp_path, erasure_folder):
    check_refused(call(capfd, "export", erasure_folder, "--out", tmp_path / "out", *options), *words)
    assert not (tmp_path / "out").exists()


def test_folders_and_models_that_do_not_fit_are_refused(capfd, tmp_path, erasure_folder):
    out = tmp_path / "out"
    check_refused(call(capfd, "export", tmp_path, "--out", out), "is not an erasure", "efface erase")
    check_refused(call(capfd, "export", erasure_folder, "--out", erasure_folder, "--overwrite"), "is not an export")
    check_refused(call(capfd, "export", erasure_folder, "--out", tmp_path / "no" / "where"), "does not exist")
    output = call(capfd, "export", erasure_folder, "--out", out, "--model", "pocket")
    check_refused(output, "is not the base of this erasure", early=False)
    assert not out.exists()


def test_a_guidance_edit_cannot_be_exported(capfd, tmp_path, model_folder):
    erase = ("erase", "gun", "--method", "negative_prompt", "--model", model_folder, "--out", tmp_path / "guided")
    assert call(capfd, *erase).code == 0
    output = call(capfd, "export", tmp_path / "guided", "--out", tmp_path / "out", "--model", model_folder)
    check_refused(output, "a guidance edit acts during sampling")
    assert not (tmp_path / "out").exists()


def test_importing_exporters_and_reporting_keeps_the_verbs_callable(tmp_path):
    import efface.exporters.write
    import efface.reporting.page

    for verb in (efface.export, efface.report):
        with pytest.raises(efface.EffaceError, match="erasure"):
            verb(tmp_path, tmp_path / "out")
