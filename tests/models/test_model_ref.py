"""Model references: every accepted form, and errors that name the accepted forms."""

from __future__ import annotations

import subprocess
import sys

import pytest

from efface.core.errors import EffaceError, UnknownNameError
from efface.models.model_ref import (
    ModelRef,
    ModelSource,
    base_bundled_model,
    bundled_folder,
    image_world,
    locate_model,
    model_name,
    validate_pretrained_ref,
)


def test_bundled_models_folders_checkpoints_and_hub_ids_are_located(folders, tmp_path, monkeypatch):
    assert locate_model("pocket") == ModelSource("folder", bundled_folder("pocket"), "pocket")
    assert locate_model("pocket-sibling") == ModelSource("folder", bundled_folder("pocket"), "pocket-sibling")
    assert locate_model("org/name") == ModelSource("hub", None, "org/name")
    assert locate_model(folders["sd1"]) == ModelSource("folder", folders["sd1"], "sd1")
    monkeypatch.chdir(folders["sd1"])
    assert locate_model(".").name == "sd1"
    checkpoint = tmp_path / "one.safetensors"
    checkpoint.touch()
    assert locate_model(checkpoint) == ModelSource("file", checkpoint, "one")


@pytest.mark.parametrize("ref", ["poket", "a/b/c", "../nowhere", "https://x/y"])
def test_an_unknown_reference_lists_the_accepted_forms(ref):
    forms = (
        r"a \.safetensors checkpoint, a folder of a causal language model, of a Janus-type model or of an image "
        r"classifier, "
        r"a hub id such as org/name, any folder in diffusers layout"
    )
    with pytest.raises(UnknownNameError, match=forms):
        locate_model(ref)


def test_a_missing_checkpoint_is_named():
    with pytest.raises(EffaceError, match=r"there is no checkpoint none\.safetensors"):
        locate_model("none.safetensors")


def test_an_unknown_dtype_is_refused():
    with pytest.raises(UnknownNameError, match="did you mean 'float16'"):
        ModelRef("pocket", dtype="flaot16")


def test_names_in_results(tiny, folders):
    assert model_name(ModelRef(None), "org/name") == "org/name"
    assert model_name(ModelRef(folders["sd1"])) == model_name(folders["sd1"]) == "sd1"
    assert model_name(tiny) == "tiny"
    assert model_name(tiny.pipe) == "pipeline"
    assert [base_bundled_model(name) for name in ("pocket", "pocket-sibling", "other")] == ["pocket", "pocket", "other"]
    assert base_bundled_model("pocket-flow") == "pocket-flow", "a FLUX model has settings of its own"
    assert [image_world(name) for name in ("pocket-sibling", "pocket-flow", "other")] == ["pocket", "pocket", "other"]


def test_pretrained_references_are_folders_or_hub_ids(tmp_path):
    validate_pretrained_ref(str(tmp_path))
    validate_pretrained_ref("org/name")
    with pytest.raises(UnknownNameError, match="a folder in transformers' layout"):
        validate_pretrained_ref("nothing")


def test_a_wrong_name_costs_no_import_of_torch():
    code = (
        "import sys, efface.core.errors, efface.models.loading as loading\n"
        "try: loading.load_model('poket')\n"
        "except efface.core.errors.UnknownNameError: sys.exit('torch' in sys.modules)\n"
        "sys.exit(2)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
