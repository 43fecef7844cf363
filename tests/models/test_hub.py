"""The Hugging Face hub, with the library's downloads replaced."""

from __future__ import annotations

import pytest
from helpers.cli import call, check_refused
from helpers.tiny import PIPES

from efface.core.errors import EffaceError
from efface.models.loading import load_model


def test_an_unreachable_hub_is_reported_in_one_line(monkeypatch, capfd, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    message = r"nobody/nothing.* is no folder here, and the hub cannot be reached"
    for options in ({}, {"revision": "v1"}):
        with pytest.raises(EffaceError, match=message) as caught:
            load_model("nobody/nothing", **options)
        assert "\n" not in str(caught.value)
    out = call(capfd, "sample", "a cat", "--model", "nobody/nothing", "--revision", "v1", "--out", tmp_path / "x.png")
    check_refused(out, "nobody/nothing@v1", "HF_HUB_OFFLINE")


@pytest.mark.parametrize("family", PIPES)
def test_a_hub_id_loads_from_the_downloaded_folder(family, folders, monkeypatch):
    downloads = []

    def index(ref, name, revision=None):
        return str(folders[family] / name)

    def download(ref, **options):
        downloads.append({"ref": ref, **options})
        return str(folders[family])

    monkeypatch.setattr("efface.models.hub.hf_hub_download", index)
    monkeypatch.setattr("diffusers.DiffusionPipeline.download", download)
    model = load_model("org/name", revision="v2")
    assert (model.name, model.family) == ("org/name", family)
    assert [(d["ref"], d["revision"], d["use_safetensors"]) for d in downloads] == [("org/name", "v2", True)]


def test_an_unsupported_pipeline_is_refused_before_its_weights_are_downloaded(monkeypatch, tmp_path):
    def index(ref, name, revision=None):
        (tmp_path / name).write_text('{"_class_name": "PixArtSigmaPipeline"}')
        return str(tmp_path / name)

    monkeypatch.setattr("efface.models.hub.hf_hub_download", index)
    monkeypatch.setattr("diffusers.DiffusionPipeline.download", lambda *_, **__: pytest.fail("weights were downloaded"))
    with pytest.raises(EffaceError, match="org/name is a PixArtSigmaPipeline, which is not supported"):
        load_model("org/name")
