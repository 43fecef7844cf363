"""The audit of an edited checkpoint: changed tensors, other architectures, and one report."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from helpers.cli import call, check_refused, tiny_folder
from helpers.small_benchmark import small_benchmark
from helpers.tiny import tiny_model, tiny_sd2_pipe

from efface import api
from efface.core.erasure import Erasure
from efface.core.errors import EffaceError
from efface.models.loading import load_model
from efface.models.model_ref import ModelRef, bundled_folder
from efface.models.stable_diffusion import StableDiffusionModel
from efface.ops.editing.apply import applied
from efface.studies.audit import _loaded_like
from efface.studies.tensor_changes import changed_tensors, measure_changes, to_edits


def test_changed_tensors_and_their_measures() -> None:
    base, edited = tiny_model(), tiny_model()
    weight = dict(edited.components["unet"].named_parameters())[
        "mid_block.attentions.0.transformer_blocks.0.attn2.to_k.weight"
    ]
    with torch.no_grad():
        weight += torch.outer(torch.ones(weight.shape[0]), torch.arange(weight.shape[1]).float())
    changed = changed_tensors(base, edited)
    (change,) = measure_changes(base, changed)
    assert (change.component, change.rank) == ("unet", 1)
    assert change.max_change == pytest.approx(weight.shape[1] - 1, rel=1e-4)
    (edit,), tensors = to_edits(changed)
    assert list(edit.tensors.values()) == list(tensors)
    with pytest.raises(EffaceError, match="equals tiny in every tensor: there is nothing to audit"):
        changed_tensors(base, tiny_model())


def test_another_architecture_is_refused(tmp_path: Path) -> None:
    tiny_sd2_pipe().save_pretrained(tmp_path / "sd2")
    with pytest.raises(EffaceError, match="is of another architecture than tiny"):
        changed_tensors(tiny_model(), load_model(tmp_path / "sd2"))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--concept", "gun"), "no benchmark for 'gun'"),
        (("--concept", "gun", "--benchmark", "pocket-weapon"), "pocket-weapon measures 'weapon', not 'gun'"),
        (("--concept", "weapon", "--benchmark", "pocket-weapon", "--attack", "none"), "unknown attack 'none'"),
    ],
)
def test_bad_options_are_one_line(
    options: tuple[str, ...], words: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = tiny_folder(tmp_path / "m")
    check_refused(call(capfd, "audit", folder, "--base", folder, "--out", tmp_path / "o", *options), words)
    assert not (tmp_path / "o").exists()


def test_a_missing_checkpoint_is_one_line(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    output = call(
        capfd, "audit", tmp_path / "no.safetensors", "--base", "pocket", "--concept", "weapon", "--out", tmp_path / "o"
    )
    check_refused(output, "there is no checkpoint")


def test_a_single_file_has_the_configuration_of_its_base(tmp_path: Path, pocket: StableDiffusionModel) -> None:
    file = tmp_path / "edited.safetensors"
    file.touch()
    assert _loaded_like("pocket", file, pocket).config == bundled_folder("pocket")
    assert _loaded_like(ModelRef(file, config="sd2-base"), file, pocket).config == "sd2-base"
    assert _loaded_like("pocket", tmp_path, pocket).config is None


@pytest.mark.slow
@pytest.mark.parametrize("format", ["diffusers", "peft", "single-file"])
def test_an_exported_erasure_is_audited_like_the_erasure_itself(
    format: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    api.erase("weapon", out=tmp_path / "e", method="uce", quick_evaluation=False)
    api.export(tmp_path / "e", tmp_path / "x", format=format)
    path = next((tmp_path / "x").glob("*.safetensors")) if format != "diffusers" else tmp_path / "x"
    benchmark = small_benchmark(tmp_path, "pocket-weapon", 4, ("name",))
    output = call(
        capfd, "audit", path, "--base", "pocket", "--concept", "weapon", "--benchmark", benchmark,
        "--out", tmp_path / "o", "--attack", "synonyms", "--limit", 2, "--json", "--device", "cpu",
        "--dtype", "float32",
    )  # fmt: skip
    assert output.code == 0, output.err
    data = json.loads(output.out)
    assert Path(data["report"]).is_file()
    assert {change["component"] for change in data["changes"]} == {"unet"}
    model = load_model("pocket", device="cpu")
    prompts, images = ["a photo of a weapon in the snow"], []
    for folder in ("e", "o"):
        with applied(model, Erasure.load(tmp_path / folder)):
            images.append(model.sample(prompts, seeds=[1], num_inference_steps=4))
    assert (images[0] - images[1]).abs().max() < 1e-3
