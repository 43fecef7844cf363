"""Erasures as a user of diffusers handles them: without a folder, and on a pipeline."""

from __future__ import annotations

import gc
from dataclasses import replace

import pytest
import torch
from helpers.tiny import tiny_pipe

import efface
from efface.core.errors import EffaceError
from efface.core.unsaved import is_unsaved

CONFIG = {"num_templates": 0}


@pytest.fixture
def pipe():
    return tiny_pipe()


@pytest.fixture
def erasure(pipe):
    return efface.erase(efface.Concept("gun", retain_prompts=("a cat",)), model=pipe, method="uce", config=CONFIG)


def weights(pipe):
    return {name: tensor.clone() for name, tensor in pipe.unet.state_dict().items()}


def changed(pipe, before):
    return [name for name, tensor in pipe.unet.state_dict().items() if not torch.equal(tensor, before[name])]


def test_an_erasure_without_a_folder_is_saved_later_with_its_evidence(erasure, pipe, tmp_path):
    temporary = erasure.folder
    assert is_unsaved(temporary)
    assert repr(erasure).startswith("<Erasure of gun from ")
    assert repr(erasure).endswith("not saved>")
    saved = erasure.save(tmp_path / "e")
    assert (tmp_path / "e" / "evidence" / "effect-check" / "images.json").is_file()
    assert repr(saved).endswith(f"{tmp_path / 'e'}>")
    assert efface.Erasure.load(tmp_path / "e") == saved
    with pytest.raises(EffaceError, match="already there"):
        erasure.save(tmp_path / "e")
    del erasure
    gc.collect()


def test_a_changed_erasure_is_saved_with_its_change_and_the_other_files(erasure, tmp_path):
    saved = replace(erasure, effect={"summary": "changed"}).save(tmp_path / "e")
    assert efface.Erasure.load(tmp_path / "e").effect == {"summary": "changed"}
    assert (tmp_path / "e" / "history.json").is_file()
    again = replace(saved, effect={"summary": "again"}).save(tmp_path / "e", overwrite=True)
    assert efface.Erasure.load(tmp_path / "e") == again


def test_its_folder_goes_with_it(pipe):
    erasure = efface.erase("gun", model=pipe, method="uce", config=CONFIG)
    folder = erasure.folder
    assert folder.is_dir()
    del erasure
    gc.collect()
    assert not folder.parent.exists()


def test_a_pipeline_is_erased_and_restored(erasure, pipe):
    before = weights(pipe)
    erasure.apply(pipe)
    assert changed(pipe, before)
    with pytest.raises(EffaceError, match=r"^uce-gun-\w+ is applied to .* already: remove it first$"):
        erasure.apply(pipe)
    erasure.remove(pipe)
    assert not changed(pipe, before)
    with pytest.raises(EffaceError, match="is not applied to"):
        erasure.remove(pipe)
    with erasure.applied(pipe):
        assert changed(pipe, before)
    assert not changed(pipe, before)


def test_every_verb_takes_an_erasure(erasure, pipe, tmp_path):
    exported = efface.export(erasure, tmp_path / "x", format="component", model=pipe)
    assert exported.files
    assert efface.report(erasure, tmp_path / "report.html").is_file()
    compared = efface.compare(erasure, ["a cat"], out=tmp_path / "c.html", model=pipe, num_inference_steps=2)
    assert compared is not None
    copy = efface.compose([erasure])
    assert copy.folder is None
    assert efface.report(copy, tmp_path / "copy.html").is_file()


def test_a_notebook_shows_images_before_and_after(erasure):
    text = erasure._repr_html_()
    assert "Erasure of gun" in text
    assert text.count("data:image/png;base64,") == 16
    assert "no effect check" in efface.compose([erasure])._repr_html_()


def test_an_edit_of_the_sampler_is_refused_on_a_pipeline(pipe):
    erasure = efface.erase("gun", model=pipe, method="negative_prompt")
    with pytest.raises(EffaceError, match=r"changes efface's sampler and no weights.*efface.load_model\(pipe\)"):
        erasure.apply(pipe)
    model = efface.load_model(pipe)
    with erasure.applied(model):
        assert model.guidance_edits
    assert not model.guidance_edits


def test_a_name_is_no_loaded_model(erasure):
    with pytest.raises(EffaceError, match=r"'pocket' is no loaded model: pass efface.load_model\('pocket'\)"):
        erasure.apply("pocket")


def test_a_pipeline_keeps_its_adapter_until_a_component_changes(pipe):
    model = efface.load_model(pipe)
    assert efface.load_model(pipe) is model
    pipe.unet = tiny_pipe().unet
    assert efface.load_model(pipe) is not model
