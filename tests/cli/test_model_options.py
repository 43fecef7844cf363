"""The options of model loading, in every command that loads a model."""

from __future__ import annotations

import json

import pytest
from helpers.cli import MISMATCH, QUICK, call, check_refused
from helpers.fast import slow_but
from helpers.original import write_original
from helpers.tiny import PIPES

from efface.core.erasure import Erasure


@pytest.mark.parametrize("family", slow_but(["sd1"], PIPES))
def test_an_erasure_of_a_checkpoint_transfers_to_another_denoiser(family, tmp_path, capfd):
    pipe, other = PIPES[family](), PIPES[family](1)
    pipe.save_pretrained(tmp_path / "base")
    checkpoint = write_original(pipe, tmp_path / "base.safetensors")
    shared = {name: part for name, part in pipe.components.items() if name.startswith("text_encoder")}
    other.register_modules(**shared)
    other.save_pretrained(tmp_path / "other")
    loading = ("--model-config", tmp_path / "base", "--dtype", "fp32", "--device", "cpu")
    out = tmp_path / "e"
    erase = ("erase", "gun", "--out", out, "--model", checkpoint, *loading, "--set", "target_modules=text_all", *QUICK)
    output = call(capfd, *erase, "--json")
    assert output.code == 0, output
    assert {edit["component"] for edit in json.loads(output.out)["edits"]} == set(shared)
    output = call(capfd, "transfer", out, "--to", tmp_path / "other", "--device", "cpu", "--json")
    assert output.code == 0, output
    assert set(json.loads(output.out)["transfer"]["distances"].values()) == {0.0}
    assert Erasure.load(tmp_path / "e-on-other").spec.model == "other"


@pytest.mark.parametrize("family", PIPES)
def test_sampling_in_half_precision(family, tmp_path, capfd):
    PIPES[family]().save_pretrained(tmp_path / "base")
    model = ("--model", tmp_path / "base", "--dtype", "bf16")
    output = call(capfd, "sample", "a gun", "-n", 1, "--steps", 2, *model, "--out", tmp_path / "g.png")
    assert output.code == 0, output
    assert (tmp_path / "g.png").is_file()


def test_every_command_checks_the_loading_options(tmp_path, capfd, model_folder, erasure_folder):
    evaluated = (erasure_folder, "--benchmark", "pocket-weapon", *MISMATCH, "--model", model_folder)
    for command in (
        ("sample", "a gun", "--out", tmp_path / "g.png", "--model", model_folder),
        ("erase", "gun", "--out", tmp_path / "f", "--model", model_folder),
        ("evaluate", *evaluated),
        ("attack", *evaluated),
        ("export", erasure_folder, "--out", tmp_path / "x", "--model", model_folder),
        ("transfer", erasure_folder, "--to", model_folder, "--out", tmp_path / "x"),
    ):
        check_refused(call(capfd, *command, "--dtype", "fp17"), "unknown dtype 'fp17'", "did you mean 'fp1")
        check_refused(call(capfd, *command, "--revision", "main"), "a revision belongs to a hub id")
        check_refused(call(capfd, *command, "--device", "gpu"), "no device 'gpu'", "give cpu")
        offloaded = call(capfd, *command, "--device", "cpu", "--offload")
        check_refused(offloaded, "this model computes on the CPU", "omit --offload", "--device cuda")
    pickle = call(capfd, "transfer", erasure_folder, "--to", "nobody/x.ckpt", "--out", tmp_path / "x")
    check_refused(pickle, "is a pickle")
    assert not list(tmp_path.iterdir())
