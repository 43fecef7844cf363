"""Whole pipelines and components: what plain diffusers loads is what efface applied."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline, UNet2DConditionModel
from helpers.edits import every_op
from helpers.exports import drawn, joined, low_rank, replacing, saved, state
from helpers.tiny import state_bytes, tiny_model
from transformers import CLIPTextModel

from efface import api
from efface.core.edits import Edit
from efface.core.erasure import Erasure
from efface.core.errors import BaseModelMismatchError, EffaceError, UnknownNameError
from efface.core.io import sha256_file
from efface.core.result import Provenance, Result, Score
from efface.models.stable_diffusion import StableDiffusionModel
from efface.ops.editing.apply import applied, apply


def loaded(folder) -> StableDiffusionModel:
    pipe = DiffusionPipeline.from_pretrained(folder)
    pipe.set_progress_bar_config(disable=True)
    return StableDiffusionModel(pipe, "exported")


def test_a_pipeline_draws_what_the_applied_erasure_draws_bit_for_bit(tiny, base, tmp_path):
    erasure = joined(replacing(tiny, "cross_all", "text_mlp"), low_rank(tiny))
    artifact, before = saved(erasure, tmp_path / "e"), state_bytes(tiny)
    done = api.export(artifact, tmp_path / "out", model=tiny)
    assert state_bytes(tiny) == before, "the base is as it was"
    exported = loaded(tmp_path / "out")
    with applied(tiny, erasure):
        assert state_bytes(exported) == state_bytes(tiny)
        assert torch.equal(drawn(exported), drawn(tiny))
        images = [
            pipe("a gun", num_inference_steps=3, output_type="np", generator=torch.Generator().manual_seed(1)).images[0]
            for pipe in (exported.pipe, tiny.pipe)
        ]
        assert np.array_equal(*images)
    assert not torch.equal(drawn(exported), drawn(tiny))
    assert set(done.files) == {
        path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*") if path.is_file()
    }
    assert not [name for name in done.files if not name.endswith((".json", ".safetensors", ".md", ".txt"))]


def test_pocket_is_exported_by_its_name(pocket, tmp_path):
    artifact = saved(replacing(pocket, "cross_kv"), tmp_path / "e")
    api.export(artifact, tmp_path / "out", form="diffusers")
    with applied(pocket, Erasure.load(artifact)):
        assert torch.equal(drawn(loaded(tmp_path / "out")), drawn(pocket))


def test_components_alone_go_into_another_pipeline(tiny, base, tmp_path):
    erasure = replacing(tiny, "cross_kv", "text_mlp")
    api.export(saved(erasure, tmp_path / "e"), tmp_path / "out", form="component", model=base)
    assert sorted(path.name for path in (tmp_path / "out").iterdir() if path.is_dir()) == ["text_encoder", "unet"]
    parts = {
        "unet": UNet2DConditionModel.from_pretrained(tmp_path / "out" / "unet"),
        "text_encoder": CLIPTextModel.from_pretrained(tmp_path / "out" / "text_encoder"),
    }
    exported = StableDiffusionModel(DiffusionPipeline.from_pretrained(base, **parts), "exported")
    with applied(tiny, erasure):
        assert torch.equal(drawn(exported), drawn(tiny))
    only = api.export(
        saved(replacing(tiny, "text_mlp"), tmp_path / "t"), tmp_path / "text", form="component", model=base
    )
    assert {name.partition("/")[0] for name in only.files} == {"text_encoder", "README.md", "efface_export.json"}


@pytest.mark.parametrize("with_weights", [False, True])
def test_a_state_edit_goes_into_keys_and_values(tiny, base, tmp_path, with_weights):
    erasure = joined(state(tiny), replacing(tiny, "cross_all")) if with_weights else state(tiny)
    artifact, plain_image, before = saved(erasure, tmp_path / "e"), drawn(tiny), state_bytes(tiny)
    api.export(artifact, tmp_path / "out", model=tiny)
    assert state_bytes(tiny) == before
    exported = loaded(tmp_path / "out")
    with applied(tiny, erasure):
        assert torch.allclose(drawn(exported), drawn(tiny), atol=1e-5)
    assert not torch.allclose(drawn(exported), plain_image, atol=1e-3)
    done = api.export(artifact, tmp_path / "part", form="component", model=tiny)
    assert "unet/config.json" in done.files
    assert not any(name.startswith("text_encoder") for name in done.files)


def test_two_state_edits_are_fused_in_their_order(tiny, tmp_path):
    first = state(tiny)
    more = {"n": np.random.default_rng(7).normal(size=(32, 32)).astype("f4") / 6}
    erasure = Erasure(
        first.spec, (*first.edits, Edit("text_encoder", "state", {"matrix": "n"})), {**first.tensors, **more}
    )
    api.export(saved(erasure, tmp_path / "e"), tmp_path / "out", model=tiny)
    with applied(tiny, erasure):
        assert torch.allclose(drawn(loaded(tmp_path / "out")), drawn(tiny), atol=1e-5)


def test_the_card_and_the_manifest_tell_where_it_comes_from(tiny, base, tmp_path):
    artifact = saved(replacing(tiny, "text_mlp"), tmp_path / "e")
    done = api.export(artifact, tmp_path / "out", form="component", model=base)
    text = (tmp_path / "out" / "README.md").read_text()
    erasure = Erasure.load(artifact)
    for word in (
        'base_model: "tiny"',
        "gun",
        "esd",
        erasure.spec.hash,
        "Licence",
        "CLIPTextModel.from_pretrained",
        "Nothing: there was no",
    ):
        assert word in text, word
    data = json.loads((tmp_path / "out" / "efface_export.json").read_text())
    assert data["erasure"] == json.loads((artifact / "erasure.json").read_text())
    assert data["form"] == done.form == "component"
    for name, row in data["files"].items():
        assert row == {"bytes": done.files[name], "sha256": sha256_file(tmp_path / "out" / name)}
    scope: dict = {}
    code = text.partition("```python\n")[2].partition("```")[0].replace("path/to/this/folder", str(tmp_path / "out"))
    exec(code.replace("path/to/the/base/model", str(base)), scope)
    with applied(tiny, erasure):
        assert torch.equal(drawn(StableDiffusionModel(scope["pipe"], "from the card")), drawn(tiny))


def test_the_card_tells_what_was_measured(tiny, base, tmp_path):
    artifact = saved(replacing(tiny, "text_mlp"), tmp_path / "e")
    score = Score.rate("asr_post", "synonyms", 3, 12, None, Provenance())
    Result((score,)).save(artifact / "evidence" / "attacks" / "synonyms" / "result.json")
    result = Result((Score.rate("abstention_rate", "name", 1, 20, None, Provenance()),))
    result.save(artifact / "evidence" / "mine-test-0" / "result.json")
    api.export(artifact, tmp_path / "out", form="component", model=base)
    text = (tmp_path / "out" / "README.md").read_text()
    assert f"- mine-test-0: {result.summary()}" in text
    assert f"- attack synonyms: {score.summary()}" in text
    (artifact / "evidence" / "mine-test-0" / "result.json").write_text("{}")
    with pytest.raises(EffaceError, match="schema version"):
        api.export(artifact, tmp_path / "again", form="component", model=base)
    assert not (tmp_path / "again").exists()


def test_another_base_is_refused_unless_forced(tiny, tmp_path):
    other, artifact = tiny_model(seed=1), saved(replacing(tiny, "cross_kv"), tmp_path / "e")
    with pytest.raises(BaseModelMismatchError, match="not the base of this erasure"):
        api.export(artifact, tmp_path / "out", model=other)
    assert [path.name for path in tmp_path.iterdir()] == ["e"]
    done = api.export(artifact, tmp_path / "out", model=other, force=True)
    assert done.forced
    assert "forced onto another base" in (tmp_path / "out" / "README.md").read_text()
    with applied(other, Erasure.load(artifact), force=True):
        assert state_bytes(loaded(tmp_path / "out")) == state_bytes(other)


def test_what_cannot_be_exported_is_said_in_one_line(tiny, tmp_path):
    with pytest.raises(EffaceError, match="a guidance edit acts while sampling") as error:
        api.export(saved(every_op(tiny), tmp_path / "g"), tmp_path / "out", model=tiny)
    assert "\n" not in str(error.value)
    with pytest.raises(EffaceError, match="a state edit with a bias"):
        api.export(saved(state(tiny, bias=0.1), tmp_path / "b"), tmp_path / "out", model=tiny)
    artifact = saved(replacing(tiny, "cross_kv"), tmp_path / "e")
    with pytest.raises(UnknownNameError, match="did you mean 'diffusers'"):
        api.export(artifact, tmp_path / "out", form="difusers", model=tiny)
    with pytest.raises(EffaceError, match="a rank is for the forms peft and kohya"):
        api.export(artifact, tmp_path / "out", rank=2, model=tiny)
    apply(tiny, Erasure.load(artifact))
    with pytest.raises(EffaceError, match="an erasure is on tiny already"):
        api.export(artifact, tmp_path / "out", model=tiny)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b", "e", "g"]


def test_only_an_export_is_replaced(tiny, tmp_path):
    artifact = saved(replacing(tiny, "cross_kv"), tmp_path / "e")
    api.export(artifact, tmp_path / "out", model=tiny)
    with pytest.raises(EffaceError, match="is there already"):
        api.export(artifact, tmp_path / "out", form="component", model=tiny)
    api.export(artifact, tmp_path / "out", form="component", model=tiny, overwrite=True)
    assert not (tmp_path / "out" / "vae").exists()
    with pytest.raises(EffaceError, match="is not an export"):
        api.export(artifact, artifact, model=tiny, overwrite=True)
    assert Erasure.load(artifact).edits
