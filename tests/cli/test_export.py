"""``efface export`` as a user types it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers.cli import QUICK, call, check_refused, content, tiny_folder

import efface


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> Path:
    return tiny_folder(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def made(tmp_path_factory, tiny) -> Path:
    out = tmp_path_factory.mktemp("made") / "e"
    config = dict(row.split("=") for row in QUICK if "=" in row)
    efface.erase("gun", out=out, model=tiny, config=config)
    return out


def test_every_form_from_the_command_line(capfd, tmp_path, tiny, made):
    said = call(capfd, "export", made, "--out", tmp_path / "d", "--model", tiny, "--json")
    data = json.loads(said.out)
    assert (said.code, data["form"], data["folder"], data["forced"]) == (0, "diffusers", str(tmp_path / "d"), False)
    assert data["files"].keys() == {name for name, raw in content(tmp_path / "d").items() if raw is not None}
    assert "export (diffusers)" in said.err
    assert "shards" not in said.err, "one bar, ours"
    for form in ("component", "single-file"):
        said = call(capfd, "export", made, "--form", form, "--out", tmp_path / form, "--model", tiny)
        assert (said.code, said.out.splitlines()[-1]) == (0, str(tmp_path / form)), said
        assert (tmp_path / form / "README.md").is_file()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["component", "d", "single-file"]


def test_what_a_user_gets_wrong_is_one_line(capfd, tmp_path, tiny, made):
    out = tmp_path / "out"
    check_refused(call(capfd, "export", made, "--out", out, "--form", "lora"), "unknown export form 'lora'", "kohya")
    check_refused(call(capfd, "export", made, "--out", out, "--rank", "4"), "a rank is for the forms peft and kohya")
    check_refused(call(capfd, "export", made, "--out", out, "--form", "kohya"), "replaces whole tensors", "--rank 16")
    check_refused(call(capfd, "export", made, "--out", out, "--form", "peft", "--rank", "4"), "a bias or a norm")
    check_refused(call(capfd, "export", tmp_path, "--out", out), "is no erasure")
    check_refused(call(capfd, "export", made, "--out", made, "--overwrite"), "is not an export")
    check_refused(call(capfd, "export", made, "--out", tmp_path / "no" / "where"), "does not exist")
    check_refused(
        call(capfd, "export", made, "--out", out, "--model", "pocket"), "is not the base of this erasure", early=False
    )
    guided = tmp_path / "guided"
    assert call(capfd, "erase", "gun", "--method", "negative_prompt", "--model", tiny, "--out", guided).code == 0
    check_refused(call(capfd, "export", guided, "--out", out, "--model", tiny), "a guidance edit acts while sampling")
    assert not out.exists()


def test_the_verbs_stay_callable_although_packages_have_their_names(tmp_path):
    import efface.exporters.write
    import efface.reporting.page

    for verb in (efface.exporters, efface.reporting):
        with pytest.raises(efface.EffaceError, match="no erasure"):
            verb(tmp_path, tmp_path / "out")
