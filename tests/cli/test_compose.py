"""``efface compose``: one erasure from several, and mixes that exclude each other."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from helpers.cli import call, check_refused
from helpers.edits import membrane_edit
from helpers.exports import save_erasure
from helpers.tiny import erasure_of, tiny_of

import efface
from efface.core.concept import Concept
from efface.core.edits import Edit
from efface.core.erasure import Erasure
from efface.core.errors import EffaceError
from efface.models.loading import load_model


@pytest.fixture(scope="module")
def spm_folder(tmp_path_factory, model_folder):
    model = load_model(model_folder)
    edit, tensors = membrane_edit(model, ["dog"])
    erasure = erasure_of(model, [edit], tensors)
    erasure = replace(
        erasure, spec=replace(erasure.spec, method="spm", concepts=(Concept("dog"),), model=str(model_folder))
    )
    return save_erasure(erasure, tmp_path_factory.mktemp("spm") / "e")


def test_two_erasures_become_one_that_is_shown(capfd, erasure_folder, spm_folder, model_folder, tmp_path):
    out = tmp_path / "both"
    result = call(capfd, "compose", erasure_folder, spm_folder, "--out", out, "--model", model_folder, "--json")
    assert result.code == 0, result.err
    data = json.loads(result.out)
    assert data["concepts"] == ["gun", "dog"]
    composed = Erasure.load(out)
    assert [edit.op for edit in composed.edits] == ["replace", "module"]
    (gate,) = composed.effect["gates"]
    assert gate["gate"] == "similarity to 'dog'"
    assert gate["strengths"]
    text = call(capfd, "show", out).out
    assert "module edit of unet (membrane)" in text
    assert "gated by similarity" in text
    assert "strength by similarity to 'dog'" in text
    assert "efface compose" in efface.report(out, tmp_path / "r.html").read_text()


def test_what_cannot_be_combined_is_refused_in_one_line(capfd, erasure_folder, spm_folder, tmp_path):
    out = tmp_path / "out"
    check_refused(call(capfd, "compose", erasure_folder, erasure_folder, "--out", out), "erase the concepts in one run")
    check_refused(call(capfd, "compose", erasure_folder, "--out", out), "give at least two")
    check_refused(call(capfd, "compose", spm_folder, tmp_path / "none", "--out", out), "is not an erasure", early=False)
    assert not out.exists()


def test_two_autoencoders_at_one_layer_exclude_each_other():
    model = tiny_of("sd1")
    roles = ("encoder", "encoder_bias", "decoder", "decoder_bias", "features")
    edit = Edit(
        "text_encoder", "module", {f"encoder.layers.0.{role}": "t" for role in roles}, {}, {"kind": "autoencoder"}
    )
    erasure = erasure_of(model, [edit], {"t": np.ones(1, "f4")})
    with pytest.raises(EffaceError, match=r"1 and 2 both write 'encoder\.layers\.0'"):
        efface.compose([erasure, erasure])
