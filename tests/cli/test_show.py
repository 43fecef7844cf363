"""``efface show`` and ``efface verify``."""

from __future__ import annotations

import json
import shutil

import pytest
from helpers.cli import call, check_refused, content
from helpers.damage import damage
from helpers.example_scores import score, scores

from efface.cli.scores import verdict_as_text
from efface.core.erasure import Erasure
from efface.core.errors import CorruptArtifactError
from efface.core.result import Result
from efface.models.loading import load_model
from efface.ops.editing.apply import apply


def test_an_erasure_is_described_and_verified(capfd, erasure_folder):
    erasure = Erasure.load(erasure_folder)
    data = json.loads(call(capfd, "show", erasure_folder, "--json").out)
    assert (data["folder"], data["erasure_hash"]) == (str(erasure_folder), erasure.spec.hash)
    assert data["effect"]["concept"] > 0.01
    text = call(capfd, "show", erasure_folder).out
    assert "gun: esd (paper) on tiny, seed 0" in text
    assert "replace edit of unet" in text
    assert json.loads(call(capfd, "verify", erasure_folder, "--json").out) == {"problems": []}
    assert "all files are unchanged" in call(capfd, "verify", erasure_folder).out


def test_the_verdict_comes_first_with_the_next_step_below_it(capfd, tmp_path, erasure_folder):
    shutil.copytree(erasure_folder, tmp_path / "e")
    before = call(capfd, "show", tmp_path / "e").out.splitlines()
    assert before[:2] == ["not evaluated", f"next: efface evaluate {tmp_path / 'e'}"]
    run = {"erasure_hash": Erasure.load(erasure_folder).spec.hash}
    Result(tuple(scores()), run).save(tmp_path / "e" / "evidence" / "mine-test-0" / "result.json")
    lines = call(capfd, "show", tmp_path / "e").out.splitlines()
    assert lines[0] == "erased, kept, not attacked"
    assert lines[1] == f"next: attack it: efface attack {tmp_path / 'e'} --attack synonyms"
    path = tmp_path / "e" / "evidence" / "mine-test-0" / "result.json"
    path.write_text(path.read_text().replace('"n": 100', '"n": 999', 1))
    for command in ("show", "verify", "report"):
        check_refused(call(capfd, command, tmp_path / "e"), "were changed after the evaluation")
    Result(tuple(scores()), run).save(path)
    assert any(line.startswith("  effect: the concept's images moved by") for line in lines)
    assert any(line.startswith("  cost: ") for line in lines)
    data = json.loads(call(capfd, "show", tmp_path / "e", "--json").out)
    assert data["evaluations"][0]["verdict"]["erasure"] == "erased"
    assert data["evaluations"][0]["verdict"]["passed"] is False


def test_the_verdict_has_its_colour_on_a_terminal(tmp_path):
    for changes, colour in (({}, "bright_black"), ({"rer_domain": score("rer", "domain", 0.4, 0.6)}, "yellow")):
        result = Result(tuple(scores(**changes)))
        text = verdict_as_text(result.verdict, result, tmp_path)
        assert text.spans[0].style == f"bold {colour}"
        assert text.plain[: text.spans[0].end] == result.verdict.headline


@pytest.mark.parametrize("how", ["bit", "cut"])
@pytest.mark.parametrize("name", ["weights.safetensors", "README.md", "history.json", "erasure.json"])
def test_a_damaged_file_is_named_and_never_applied(capfd, tmp_path, model_folder, erasure_folder, how, name):
    shutil.copytree(erasure_folder, tmp_path / "e")
    loaded, model = Erasure.load(tmp_path / "e"), load_model(model_folder)
    damage(tmp_path / "e" / name, how)
    before = content(tmp_path)
    output = call(capfd, "verify", tmp_path / "e")
    check_refused(output, name)
    assert output.out.startswith(f"{name}: ")
    output = call(capfd, "verify", tmp_path / "e", "--json")
    check_refused(output, name)
    assert [row["file"] for row in json.loads(output.out)["problems"]] == [name]
    check_refused(call(capfd, "show", tmp_path / "e"), name)
    check_refused(call(capfd, "report", tmp_path / "e"), name)
    with pytest.raises(CorruptArtifactError, match=name):
        apply(model, loaded)
    with pytest.raises(CorruptArtifactError, match=name):
        Erasure.load(tmp_path / "e")
    assert content(tmp_path) == before
