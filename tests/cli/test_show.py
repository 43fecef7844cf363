"""``efface show`` and ``efface verify``."""

from __future__ import annotations

import json
import shutil

import pytest
from helpers.cli import call, check_refused, content
from helpers.damage import damage

from efface.core.erasure import Erasure
from efface.core.errors import CorruptArtifactError
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
    with pytest.raises(CorruptArtifactError, match=name):
        apply(model, loaded)
    with pytest.raises(CorruptArtifactError, match=name):
        Erasure.load(tmp_path / "e")
    assert content(tmp_path) == before
