"""Every command that loads a model takes whatever a model can be."""

from __future__ import annotations

import json

import pytest
from helpers.cli import QUICK, call, check_refused
from helpers.original import write_original
from helpers.tiny import PIPES

from efface.core.erasure import Erasure


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("EFFACE_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.mark.parametrize("family", PIPES)
def test_from_a_checkpoint_to_an_erasure_on_another_denoiser(family, tmp_path, capfd):
    pipe, other = PIPES[family](), PIPES[family](1)
    pipe.save_pretrained(tmp_path / "base")
    checkpoint = write_original(pipe, tmp_path / "base.safetensors")
    shared = {name: part for name, part in pipe.components.items() if name.startswith("text_encoder")}
    other.register_modules(**shared)
    other.save_pretrained(tmp_path / "other")
    how = ("--model-config", tmp_path / "base", "--dtype", "fp32", "--device", "cpu")
    out = tmp_path / "e"
    made = call(
        capfd, "erase", "gun", "--out", out, "--model", checkpoint, *how, "--set", "sites=text_all", *QUICK, "--json"
    )
    assert made.code == 0, made
    assert {edit["component"] for edit in json.loads(made.out)["edits"]} == set(shared)
    moved = call(capfd, "apply", out, "--to", tmp_path / "other", "--device", "cpu", "--json")
    assert moved.code == 0, moved
    assert set(json.loads(moved.out)["transfer"]["distances"].values()) == {0.0}
    assert Erasure.load(tmp_path / "e-on-other").spec.model == "other"
    drawn = call(
        capfd,
        "sample",
        "a gun",
        "-n",
        1,
        "--steps",
        2,
        "--model",
        tmp_path / "base",
        "--dtype",
        "bf16",
        "--out",
        tmp_path / "g.png",
    )
    assert drawn.code == 0, drawn


def test_options_of_loading_are_checked_by_every_command(tmp_path, capfd):
    PIPES["sd1"]().save_pretrained(tmp_path / "base")
    made = call(capfd, "erase", "gun", "--out", tmp_path / "e", "--model", tmp_path / "base", "--device", "cpu", *QUICK)
    assert made.code == 0, made
    benchmark = ("--benchmark", "pocket-weapon")
    for command in (
        ("sample", "a gun", "--out", tmp_path / "g.png"),
        ("erase", "gun", "--out", tmp_path / "f"),
        ("evaluate", tmp_path / "e", *benchmark),
        ("attack", tmp_path / "e", *benchmark),
    ):
        model = () if command[0] == "apply" else ("--model", tmp_path / "base")
        check_refused(call(capfd, *command, *model, "--dtype", "fp17"), "unknown dtype 'fp17'", "did you mean 'fp1")
        check_refused(call(capfd, *command, *model, "--revision", "main"), "a revision belongs to a hub id")
        check_refused(call(capfd, *command, *model, "--device", "gpu"), "no device 'gpu'")
    check_refused(
        call(capfd, "apply", tmp_path / "e", "--to", tmp_path / "base", "--out", tmp_path / "x", "--device", "gpu"),
        "no device 'gpu'",
    )
    check_refused(call(capfd, "apply", tmp_path / "e", "--to", "nobody/x.ckpt", "--out", tmp_path / "x"), "is a pickle")
