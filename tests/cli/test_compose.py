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
from efface.core.composition import order_note
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
    check_refused(call(capfd, "compose", erasure_folder, erasure_folder, "--out", out), "1 and 2 are the same")
    check_refused(call(capfd, "compose", erasure_folder, "--out", out), "give at least two")
    check_refused(call(capfd, "compose", spm_folder, tmp_path / "none", "--out", out), "is not an erasure", early=False)
    assert not out.exists()


def text_layer(kind, layer, ends, **params):
    """A module edit of the text encoder, whose tensors are not read."""
    names = {f"encoder.layers.{layer}.{end}": "t" for end in ends}
    return Edit("text_encoder", "module", names, {}, {"kind": kind, **params})


AUTOENCODER = ("encoder", "encoder_bias", "decoder", "decoder_bias", "features")
WEIGHT = "encoder.layers.0.mlp.fc1.weight"
PAIR = {f"{WEIGHT}.down": "t", f"{WEIGHT}.up": "t"}
REPLACED = Edit("text_encoder", "replace", {WEIGHT: "t"})


def same_place(*edits):
    """Erasures of different runs, one edit each."""
    model = tiny_of("sd1")
    erasures = [erasure_of(model, [edit], {"t": np.ones(1, "f4")}) for edit in edits]
    return [replace(part, spec=replace(part.spec, seed=i)) for i, part in enumerate(erasures)]


@pytest.mark.parametrize(
    ("first", "second", "match"),
    [
        (
            text_layer("autoencoder", 0, AUTOENCODER, active=4),
            text_layer("autoencoder", 0, AUTOENCODER, active=8),
            r"1 and 2 both replace the states behind 'encoder\.layers\.0' of text_encoder: erase the",
        ),
        (
            text_layer("membrane", 0, ("mlp.fc1.down", "mlp.fc1.up"), adapter="unguide:gun"),
            text_layer("membrane", 1, ("mlp.fc1.down", "mlp.fc1.up"), adapter="unguide:gun"),
            "1 and 2 both insert the adapter 'unguide:gun' of text_encoder",
        ),
        (Edit("text_encoder", "low_rank", PAIR), REPLACED, "1 and 2 both write"),
    ],
)
def test_edits_that_exclude_each_other_are_refused(first, second, match):
    with pytest.raises(EffaceError, match=match):
        efface.compose(same_place(first, second))


IRECE = Edit("sampler", "guidance", params={"rule": "irece", "phrases": ["gun"]})


@pytest.mark.parametrize(
    ("first", "second", "note"),
    [
        (REPLACED, Edit("text_encoder", "low_rank", PAIR), f"changes {WEIGHT} of"),
        (Edit("text_encoder", "state", {"bias": "t"}), Edit("text_encoder", "state", {"matrix": "t"}), "the states of"),
        (IRECE, replace(IRECE, params={**IRECE.params, "strength": 0.2}), "the latents of sampler"),
        (Edit("sampler", "guidance", params={"rule": "sld"}), IRECE, ""),
        (
            text_layer("membrane", 0, ("mlp.fc1.down", "mlp.fc1.up")),
            text_layer("membrane", 0, ("mlp.fc1.down", "mlp.fc1.up")),
            "",
        ),
        (text_layer("autoencoder", 0, AUTOENCODER), text_layer("autoencoder", 1, AUTOENCODER), ""),
    ],
)
def test_the_order_is_said_where_it_matters(first, second, note):
    said = order_note(efface.compose(same_place(first, second)))
    assert note in said
    assert bool(said) == bool(note)
