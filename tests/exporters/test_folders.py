"""Exported pipelines and components: diffusers alone loads the weights that efface applied."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline, UNet2DConditionModel
from helpers.edits import every_op
from helpers.exports import concatenate, low_rank_erasure, replacing_erasure, sample_images, save_erasure, state_erasure
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


def test_exported_pipeline_generates_the_same_images_bit_for_bit(tiny, base, tmp_path):
    erasure = concatenate(replacing_erasure(tiny, "cross_all", "text_mlp"), low_rank_erasure(tiny))
    artifact, before = save_erasure(erasure, tmp_path / "e"), state_bytes(tiny)
    done = api.export(artifact, tmp_path / "out", model=tiny)
    assert state_bytes(tiny) == before, "the base model is restored"
    exported = loaded(tmp_path / "out")
    with applied(tiny, erasure):
        assert state_bytes(exported) == state_bytes(tiny)
        assert torch.equal(sample_images(exported), sample_images(tiny))
        images = [
            pipe("a gun", num_inference_steps=3, output_type="np", generator=torch.Generator().manual_seed(1)).images[0]
            for pipe in (exported.pipe, tiny.pipe)
        ]
        assert np.array_equal(*images)
    assert not torch.equal(sample_images(exported), sample_images(tiny))
    assert set(done.files) == {
        path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*") if path.is_file()
    }
    assert not [name for name in done.files if not name.endswith((".json", ".safetensors", ".md", ".txt"))]


def test_pocket_is_exported(pocket, tmp_path):
    artifact = save_erasure(replacing_erasure(pocket, "cross_kv"), tmp_path / "e")
    api.export(artifact, tmp_path / "out", format="diffusers")
    with applied(pocket, Erasure.load(artifact)):
        assert torch.equal(sample_images(loaded(tmp_path / "out")), sample_images(pocket))


def test_exported_components_fit_into_the_base_pipeline(tiny, base, tmp_path):
    erasure = replacing_erasure(tiny, "cross_kv", "text_mlp")
    api.export(save_erasure(erasure, tmp_path / "e"), tmp_path / "out", format="component", model=base)
    assert sorted(path.name for path in (tmp_path / "out").iterdir() if path.is_dir()) == ["text_encoder", "unet"]
    parts = {
        "unet": UNet2DConditionModel.from_pretrained(tmp_path / "out" / "unet"),
        "text_encoder": CLIPTextModel.from_pretrained(tmp_path / "out" / "text_encoder"),
    }
    exported = StableDiffusionModel(DiffusionPipeline.from_pretrained(base, **parts), "exported")
    with applied(tiny, erasure):
        assert torch.equal(sample_images(exported), sample_images(tiny))
    only = api.export(
        save_erasure(replacing_erasure(tiny, "text_mlp"), tmp_path / "t"),
        tmp_path / "text",
        format="component",
        model=base,
    )
    assert {name.partition("/")[0] for name in only.files} == {"text_encoder", "README.md", "efface_export.json"}


@pytest.mark.parametrize("with_weights", [False, True])
def test_state_edit_is_fused_into_keys_and_values(tiny, base, tmp_path, with_weights):
    erasure = (
        concatenate(state_erasure(tiny), replacing_erasure(tiny, "cross_all")) if with_weights else state_erasure(tiny)
    )
    artifact, plain_image, before = save_erasure(erasure, tmp_path / "e"), sample_images(tiny), state_bytes(tiny)
    api.export(artifact, tmp_path / "out", model=tiny)
    assert state_bytes(tiny) == before
    exported = loaded(tmp_path / "out")
    with applied(tiny, erasure):
        assert torch.allclose(sample_images(exported), sample_images(tiny), atol=1e-5)
    assert not torch.allclose(sample_images(exported), plain_image, atol=1e-3)
    done = api.export(artifact, tmp_path / "part", format="component", model=tiny)
    assert "unet/config.json" in done.files
    assert not any(name.startswith("text_encoder") for name in done.files)


def test_two_state_edits_are_fused_in_their_order(tiny, tmp_path):
    first = state_erasure(tiny)
    more = {"n": np.random.default_rng(7).normal(size=(32, 32)).astype("f4") / 6}
    erasure = Erasure(
        first.spec, (*first.edits, Edit("text_encoder", "state", {"matrix": "n"})), {**first.tensors, **more}
    )
    api.export(save_erasure(erasure, tmp_path / "e"), tmp_path / "out", model=tiny)
    with applied(tiny, erasure):
        assert torch.allclose(sample_images(loaded(tmp_path / "out")), sample_images(tiny), atol=1e-5)


def test_model_card_and_manifest_state_the_origin(tiny, base, tmp_path):
    artifact = save_erasure(replacing_erasure(tiny, "text_mlp"), tmp_path / "e")
    done = api.export(artifact, tmp_path / "out", format="component", model=base)
    text = (tmp_path / "out" / "README.md").read_text()
    erasure = Erasure.load(artifact)
    for word in (
        'base_model: "tiny"',
        "gun",
        "esd",
        erasure.spec.hash,
        "Licence",
        "CLIPTextModel.from_pretrained",
        "Nothing: the erasure was not",
    ):
        assert word in text, word
    data = json.loads((tmp_path / "out" / "efface_export.json").read_text())
    assert data["erasure"] == json.loads((artifact / "erasure.json").read_text())
    assert data["format"] == done.format == "component"
    for name, row in data["files"].items():
        assert row == {"bytes": done.files[name], "sha256": sha256_file(tmp_path / "out" / name)}
    scope: dict = {}
    code = text.partition("```python\n")[2].partition("```")[0].replace("path/to/this/folder", str(tmp_path / "out"))
    exec(code.replace("path/to/the/base/model", str(base)), scope)
    with applied(tiny, erasure):
        assert torch.equal(sample_images(StableDiffusionModel(scope["pipe"], "from the card")), sample_images(tiny))


def test_model_card_reports_the_scores(tiny, base, tmp_path):
    artifact = save_erasure(replacing_erasure(tiny, "text_mlp"), tmp_path / "e")
    score = Score.rate("asr_post", "synonyms", 3, 12, None, Provenance())
    run = {"erasure_hash": Erasure.load(artifact).spec.hash}
    Result((score,), run).save(artifact / "evidence" / "attacks" / "synonyms" / "result.json")
    marked = Provenance(extra={"benchmark_mismatch": "measured on 'cat', and the erasure is of gun"})
    result = Result((Score.rate("abstention_rate", "name", 1, 20, None, marked),), run)
    result.save(artifact / "evidence" / "mine-test-0" / "result.json")
    api.export(artifact, tmp_path / "out", format="component", model=base)
    text = (tmp_path / "out" / "README.md").read_text()
    assert f"- mine-test-0: {replace(result, scores=(*result.scores, score)).summary()}" in text
    assert "measured on 'cat', and the erasure is of gun" in text
    assert f"- attack synonyms: {score.summary()}" in text
    (artifact / "evidence" / "mine-test-0" / "result.json").write_text("{}")
    with pytest.raises(EffaceError, match="schema version"):
        api.export(artifact, tmp_path / "again", format="component", model=base)
    assert not (tmp_path / "again").exists()


def test_other_base_model_is_refused_unless_allowed(tiny, tmp_path):
    other, artifact = tiny_model(seed=1), save_erasure(replacing_erasure(tiny, "cross_kv"), tmp_path / "e")
    with pytest.raises(BaseModelMismatchError, match="not the base of this erasure"):
        api.export(artifact, tmp_path / "out", model=other)
    assert [path.name for path in tmp_path.iterdir()] == ["e"]
    done = api.export(artifact, tmp_path / "out", model=other, allow_base_mismatch=True)
    assert done.base_mismatch
    assert "differs from the base model" in (tmp_path / "out" / "README.md").read_text()
    with applied(other, Erasure.load(artifact), allow_base_mismatch=True):
        assert state_bytes(loaded(tmp_path / "out")) == state_bytes(other)


def test_unsupported_exports_raise_a_one_line_error(tiny, tmp_path):
    with pytest.raises(EffaceError, match="a guidance edit acts during sampling") as error:
        api.export(save_erasure(every_op(tiny), tmp_path / "g"), tmp_path / "out", model=tiny)
    assert "\n" not in str(error.value)
    with pytest.raises(EffaceError, match="a state edit with a bias"):
        api.export(save_erasure(state_erasure(tiny, bias=0.1), tmp_path / "b"), tmp_path / "out", model=tiny)
    artifact = save_erasure(replacing_erasure(tiny, "cross_kv"), tmp_path / "e")
    with pytest.raises(UnknownNameError, match="did you mean 'diffusers'"):
        api.export(artifact, tmp_path / "out", format="difusers", model=tiny)
    with pytest.raises(EffaceError, match="a rank applies to the formats peft and kohya"):
        api.export(artifact, tmp_path / "out", rank=2, model=tiny)
    apply(tiny, Erasure.load(artifact))
    with pytest.raises(EffaceError, match="an erasure is applied to tiny already"):
        api.export(artifact, tmp_path / "out", model=tiny)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b", "e", "g"]


def test_overwrite_replaces_only_exports(tiny, tmp_path):
    artifact = save_erasure(replacing_erasure(tiny, "cross_kv"), tmp_path / "e")
    api.export(artifact, tmp_path / "out", model=tiny)
    with pytest.raises(EffaceError, match="exists already"):
        api.export(artifact, tmp_path / "out", format="component", model=tiny)
    api.export(artifact, tmp_path / "out", format="component", model=tiny, overwrite=True)
    assert not (tmp_path / "out" / "vae").exists()
    with pytest.raises(EffaceError, match="is not an export"):
        api.export(artifact, artifact, model=tiny, overwrite=True)
    assert Erasure.load(artifact).edits
