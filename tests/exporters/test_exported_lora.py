"""LoRAs in both layouts: loaded by diffusers alone, they have the effect of the erasure."""

from __future__ import annotations

import json

import pytest
import torch
from helpers.edits import membrane_edit
from helpers.exports import concatenate, low_rank_erasure, replacing_erasure, sample_images, save_erasure, state_erasure
from helpers.fast import slow_but
from helpers.tiny import erasure_of
from safetensors import safe_open
from safetensors.torch import load_file

from efface import api
from efface.core.concept import Concept
from efface.core.edits import Edit
from efface.core.erasure import Erasure
from efface.core.errors import EffaceError
from efface.exporters.lora import truncate_rank
from efface.models.loading import load_model
from efface.models.tensor_names import canonical_name
from efface.ops.editing.apply import applied

pytest.importorskip("peft")
FORMATS = ("peft", "kohya")


def weights(model) -> dict[str, torch.Tensor]:
    parts = (("unet", model.pipe.unet), ("text_encoder", model.pipe.text_encoder))
    return {
        f"{part}.{canonical_name(name)}": tensor.detach().clone()
        for part, module in parts
        for name, tensor in module.named_parameters()
    }


def with_lora(base, folder):
    """The base model with the LoRA fused by diffusers, and its images with the LoRA loaded but not fused."""
    model = load_model(base, device="cpu")
    (file,) = folder.glob("*.safetensors")
    model.pipe.load_lora_weights(folder, weight_name=file.name)
    image = sample_images(model)
    model.pipe.fuse_lora()
    model.pipe.unload_lora_weights()
    return model, image


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("ranks", slow_but([(1, 3, 4)], [(2,), (1, 3, 4)]))
def test_low_rank_erasure_is_exported_exactly(tiny, base, tmp_path, format, ranks):
    erasure, before = low_rank_erasure(tiny, ranks), weights(tiny)
    done = api.export(save_erasure(erasure, tmp_path / "e"), tmp_path / "out", format=format, model=tiny)
    assert done.residuals == {}
    model, image = with_lora(base, tmp_path / "out")
    with applied(tiny, erasure):
        after, wanted = weights(tiny), sample_images(tiny)
    changed = {name for name in after if not torch.equal(after[name], before[name])}
    assert len(changed) == sum(len(edit.targets) for edit in erasure.edits)
    for name, tensor in weights(model).items():
        assert torch.allclose(tensor, after[name], atol=1e-6), name
    assert torch.allclose(image, wanted, atol=1e-4)


@pytest.mark.parametrize(("method", "format"), [("uce", "peft"), ("speed", "kohya")])
def test_closed_form_erasure_is_exported_exactly(tiny, base, tmp_path, method, format):
    """The layers share one ``down``, which the artifact stores once."""
    erasure = api.erase(Concept("gun", retain_prompts=("a cat",)), out=tmp_path / "e", model=tiny, method=method)
    assert api.export(tmp_path / "e", tmp_path / "out", format=format, model=tiny).residuals == {}
    model, image = with_lora(base, tmp_path / "out")
    plain = sample_images(tiny)
    with applied(tiny, erasure):
        after, wanted = weights(tiny), sample_images(tiny)
    for name, tensor in weights(model).items():
        assert torch.allclose(tensor, after[name], atol=1e-6), name
    assert torch.allclose(image, wanted, atol=1e-4)
    assert not torch.allclose(plain, wanted, atol=1e-3)


@pytest.mark.parametrize("format", slow_but(["peft"], FORMATS))
def test_several_low_rank_edits_of_a_weight_become_one_lora(tiny, base, tmp_path, format):
    first, second = low_rank_erasure(tiny, (2,), 0.5), low_rank_erasure(tiny, (3,), -0.25)
    renamed = {f"second.{name}": tensor for name, tensor in second.tensors.items()}
    edits = [
        Edit(e.component, e.op, {role: f"second.{name}" for role, name in e.tensors.items()}, params=e.params)
        for e in second.edits
    ]
    erasure = erasure_of(tiny, [*first.edits, *edits], {**first.tensors, **renamed})
    api.export(save_erasure(erasure, tmp_path / "e"), tmp_path / "out", format=format, model=tiny)
    model, _ = with_lora(base, tmp_path / "out")
    with applied(tiny, erasure):
        after = weights(tiny)
    for name, tensor in weights(model).items():
        assert torch.allclose(tensor, after[name], atol=1e-6), name


@pytest.mark.parametrize("format", slow_but(["kohya"], FORMATS))
def test_replaced_matrices_are_approximated_with_reported_error(tiny, base, tmp_path, format):
    erasure, before = replacing_erasure(tiny, "cross_kv"), weights(tiny)
    artifact = save_erasure(erasure, tmp_path / "e")
    with applied(tiny, erasure):
        after = weights(tiny)
    for rank in (2, 32):
        done = api.export(artifact, tmp_path / str(rank), format=format, rank=rank, model=tiny)
        model, _ = with_lora(base, tmp_path / str(rank))
        got = weights(model)
        assert set(done.residuals) == {f"unet.{name.removesuffix('.weight')}" for name in erasure.edits[0].targets}
        for name, residual in done.residuals.items():
            key = f"{name}.weight"
            left_out = (got[key] - after[key]).norm() / (after[key] - before[key]).norm()
            assert float(left_out) == pytest.approx(residual, abs=1e-4), name
        if rank == 2:
            assert min(done.residuals.values()) > 0.1
            assert "the LoRA leaves out" in (tmp_path / "2" / "README.md").read_text()
        else:
            assert max(done.residuals.values()) < 1e-6
    text = json.loads((tmp_path / "2" / "efface_export.json").read_text())
    assert text["residuals"].keys() == done.residuals.keys()


def test_exact_edits_stay_exact_beside_approximated_ones(tiny, tmp_path):
    other = {name for edit in replacing_erasure(tiny, "cross_kv").edits for name in edit.targets}
    low = low_rank_erasure(tiny)
    erasure = concatenate(replacing_erasure(tiny, "cross_kv"), low)
    done = api.export(save_erasure(erasure, tmp_path / "e"), tmp_path / "out", format="peft", rank=1, model=tiny)
    assert set(done.residuals) == {f"unet.{name.removesuffix('.weight')}" for name in other}


def test_truncate_rank_is_the_best_approximation():
    delta = torch.diag(torch.tensor([3.0, 2.0, 1.0], dtype=torch.float64))
    down, up, residual = truncate_rank(delta, 2)
    assert torch.allclose(up @ down, torch.diag(torch.tensor([3.0, 2.0, 0.0], dtype=torch.float64)))
    assert residual == pytest.approx((1 / 14) ** 0.5)
    assert truncate_rank(torch.zeros(3, 4, dtype=torch.float64), 2)[2] == 0
    assert truncate_rank(delta, 9)[2] == 0


def test_tensor_names_and_alphas(tiny, tmp_path):
    artifact = save_erasure(low_rank_erasure(tiny, (1, 4)), tmp_path / "e")
    api.export(artifact, tmp_path / "peft", format="peft", model=tiny)
    names = set(load_file(tmp_path / "peft" / "pytorch_lora_weights.safetensors"))
    assert "text_encoder.text_model.encoder.layers.0.mlp.fc1.lora_A.weight" in names
    assert "unet.mid_block.attentions.0.transformer_blocks.0.attn2.to_k.lora_B.weight" in names
    api.export(artifact, tmp_path / "kohya", format="kohya", model=tiny)
    (file,) = (tmp_path / "kohya").glob("*.safetensors")
    tensors = load_file(file)
    assert {float(tensor) for name, tensor in tensors.items() if name.endswith(".alpha")} == {4.0}
    assert "lora_te_text_model_encoder_layers_1_self_attn_q_proj.lora_down.weight" in tensors
    assert tensors["lora_unet_down_blocks_0_resnets_0_conv1.lora_down.weight"].shape[1:] == (16, 3, 3)
    assert {name.rpartition(".lora_")[2] or name for name in tensors if "lora_up" in name} == {"up.weight"}
    with safe_open(file, "pt") as opened:
        assert opened.metadata()["ss_network_dim"] == "4"


@pytest.mark.parametrize("format", FORMATS)
def test_unsupported_loras_raise_a_one_line_error(tiny, tmp_path, format):
    def check(erasure, words, rank=None):
        artifact = save_erasure(erasure, tmp_path / str(len(list(tmp_path.iterdir()))))
        with pytest.raises(EffaceError, match=words) as error:
            api.export(artifact, tmp_path / "out", format=format, rank=rank, model=tiny)
        assert "\n" not in str(error.value)
        assert not (tmp_path / "out").exists()

    check(replacing_erasure(tiny, "cross_kv"), "give the rank")
    check(replacing_erasure(tiny, "cross_all"), "a bias or a norm", rank=4)
    check(replacing_erasure(tiny, "token_embedding"), "loaders do not support", rank=4)
    check(low_rank_erasure(tiny), "omit --rank", rank=4)
    check(state_erasure(tiny), "a LoRA cannot hold a state edit")
    check(replacing_erasure(tiny, "cross_kv"), "is too small", rank=0)


@pytest.mark.parametrize("format", slow_but(["kohya"], FORMATS))
def test_membranes_are_exported_as_a_lora_at_full_strength(tiny, base, tmp_path, format):
    edit, tensors = membrane_edit(tiny, ["dog"], scale=0.5)
    artifact = save_erasure(erasure_of(tiny, [edit], tensors), tmp_path / "e")
    with pytest.raises(EffaceError, match="as kohya or peft, without their gate"):
        api.export(artifact, tmp_path / "out", format="single-file", model=tiny)
    with pytest.warns(UserWarning, match="the gate is lost"):
        api.export(artifact, tmp_path / "out", format=format, model=tiny)
    assert "The gate is lost" in (tmp_path / "out" / "README.md").read_text()
    _, image = with_lora(base, tmp_path / "out")
    ungated = erasure_of(tiny, [Edit(edit.component, edit.op, edit.tensors, params=edit.params)], tensors)
    with applied(tiny, ungated):
        wanted = sample_images(tiny)
    assert torch.allclose(image, wanted, atol=1e-4)
    with applied(tiny, Erasure.load(artifact)):
        assert not torch.allclose(sample_images(tiny), wanted, atol=1e-4)
