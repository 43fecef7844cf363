"""Single files in the original layout: diffusers' own loader restores every tensor."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from diffusers.loaders.single_file_utils import (
    convert_ldm_unet_checkpoint,
    convert_ldm_vae_checkpoint,
    infer_diffusers_model_type,
)
from helpers.exports import low_rank_erasure, replacing_erasure, sample_images, save_erasure, state_erasure
from helpers.tiny import CONTEXT, state_bytes, tiny_model, tiny_sd2_pipe, tiny_tokenizer
from safetensors.torch import load_file, save_file
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from efface import api
from efface.core.errors import EffaceError
from efface.exporters.single_file import original_tensors
from efface.models.checkpoint_settings import settings_metadata
from efface.models.original_layout import unet_name, vae_name
from efface.models.single_file import load_single_file
from efface.models.stable_diffusion import StableDiffusionModel
from efface.ops.editing.apply import applied


def read_back(folder, base) -> StableDiffusionModel:
    (file,) = folder.glob("*.safetensors")
    pipe = StableDiffusionPipeline.from_single_file(file, config=str(base), local_files_only=True)
    return StableDiffusionModel(pipe, "read back")


@pytest.mark.parametrize("make", [lambda m: replacing_erasure(m, "cross_all", "text_layers"), low_rank_erasure])
def test_the_file_holds_every_tensor_of_the_edited_model(tiny, base, tmp_path, make):
    erasure = make(tiny)
    done = api.export(save_erasure(erasure, tmp_path / "e"), tmp_path / "out", format="single-file", model=tiny)
    exported = read_back(tmp_path / "out", base)
    with applied(tiny, erasure):
        assert state_bytes(exported) == state_bytes(tiny)
        assert torch.equal(sample_images(exported), sample_images(tiny))
    assert sorted(name.rpartition(".")[2] for name in done.files) == ["json", "md", "safetensors"]


def test_state_edit_is_fused_into_the_file(tiny, base, tmp_path):
    erasure = state_erasure(tiny)
    api.export(save_erasure(erasure, tmp_path / "e"), tmp_path / "out", format="single-file", model=tiny)
    with applied(tiny, erasure):
        assert torch.allclose(sample_images(read_back(tmp_path / "out", base)), sample_images(tiny), atol=1e-5)


def test_pocket_round_trip(pocket, tmp_path):
    erasure = replacing_erasure(pocket, "cross_kv")
    api.export(save_erasure(erasure, tmp_path / "e"), tmp_path / "out", format="single-file", model=pocket)
    from efface.models.model_ref import bundled_folder

    with applied(pocket, erasure):
        assert state_bytes(read_back(tmp_path / "out", bundled_folder("pocket"))) == state_bytes(pocket)


def test_stable_diffusion_1_tensor_names():
    """Names from original checkpoints, chosen where the numbering is easily off by one."""
    to_k = "transformer_blocks.0.attn2.to_k.weight"
    unet_names = {
        "down_blocks.0.downsamplers.0.conv.weight": "input_blocks.3.0.op.weight",
        "down_blocks.1.resnets.0.conv_shortcut.bias": "input_blocks.4.0.skip_connection.bias",
        "down_blocks.3.resnets.1.norm1.weight": "input_blocks.11.0.in_layers.0.weight",
        "mid_block.attentions.0.proj_in.weight": "middle_block.1.proj_in.weight",
        "mid_block.resnets.1.conv2.weight": "middle_block.2.out_layers.3.weight",
        "up_blocks.0.upsamplers.0.conv.weight": "output_blocks.2.1.conv.weight",
        "up_blocks.1.upsamplers.0.conv.weight": "output_blocks.5.2.conv.weight",
        "up_blocks.3.resnets.2.conv_shortcut.weight": "output_blocks.11.0.skip_connection.weight",
        f"up_blocks.3.attentions.2.{to_k}": f"output_blocks.11.1.{to_k}",
        "time_embedding.linear_2.weight": "time_embed.2.weight",
        "conv_norm_out.weight": "out.0.weight",
    }
    has_attention = {"up_blocks.1", "up_blocks.2", "up_blocks.3"}.__contains__
    for name, original in unet_names.items():
        assert unet_name(name, 2, has_attention) == f"model.diffusion_model.{original}"
    autoencoder = {
        "decoder.up_blocks.0.resnets.2.conv1.weight": "decoder.up.3.block.2.conv1.weight",
        "decoder.up_blocks.2.upsamplers.0.conv.bias": "decoder.up.1.upsample.conv.bias",
        "encoder.down_blocks.1.resnets.0.conv_shortcut.weight": "encoder.down.1.block.0.nin_shortcut.weight",
        "encoder.mid_block.resnets.0.norm1.bias": "encoder.mid.block_1.norm1.bias",
        "decoder.mid_block.attentions.0.to_out.0.weight": "decoder.mid.attn_1.proj_out.weight",
        "encoder.mid_block.attentions.0.group_norm.weight": "encoder.mid.attn_1.norm.weight",
        "quant_conv.weight": "quant_conv.weight",
    }
    for name, original in autoencoder.items():
        assert vae_name(name, 4) == f"first_stage_model.{original}"
    with pytest.raises(EffaceError, match="has no tensor 'encoder_hid_proj"):
        unet_name("encoder_hid_proj.weight", 2, has_attention)


def test_stable_diffusion_1_has_every_tensor_of_the_original_checkpoint():
    """Stable Diffusion 1's checkpoint holds 686 tensors of the UNet, 248 of the autoencoder and 196 of CLIP."""
    four = {"down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4}
    with torch.device("meta"):
        parts = {
            "unet": UNet2DConditionModel(sample_size=64, cross_attention_dim=768, attention_head_dim=8),
            "vae": AutoencoderKL(block_out_channels=(128, 256, 512, 512), layers_per_block=2, **four),
            "text_encoder": CLIPTextModel(
                CLIPTextConfig(hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12)
            ),
        }
        found = original_tensors(SimpleNamespace(**parts))
    prefixes = ("model.diffusion_model.", "first_stage_model.", "cond_stage_model.transformer.text_model.")
    assert [sum(name.startswith(prefix) for name in found) for prefix in prefixes] == [686, 248, 196]
    assert infer_diffusers_model_type(found) == "v1"
    for convert, part in ((convert_ldm_unet_checkpoint, parts["unet"]), (convert_ldm_vae_checkpoint, parts["vae"])):
        shapes = {name: tensor.shape for name, tensor in part.state_dict().items()}
        assert {name: tensor.shape for name, tensor in convert(dict(found), part.config).items()} == shapes


def tiny_2() -> StableDiffusionPipeline:
    """Stable Diffusion 2 with 23 text encoder layers, as in the real model: loaders skip layer 24 by its number."""
    pipe = tiny_sd2_pipe()
    config = CLIPTextConfig(**{**pipe.text_encoder.config.to_dict(), "num_hidden_layers": 23})
    return StableDiffusionPipeline(
        **{**pipe.components, "text_encoder": CLIPTextModel(config)}, requires_safety_checker=False,
    )  # fmt: skip


def test_stable_diffusion_2_round_trip_with_a_last_layer_of_zeros(tmp_path):
    pipe, file = tiny_2(), tmp_path / "2.safetensors"
    pipe.save_pretrained(tmp_path / "2")
    found = original_tensors(pipe)
    save_file({name: tensor.contiguous() for name, tensor in found.items()}, file, metadata=settings_metadata(pipe))
    last = [tensor for name, tensor in found.items() if "transformer.resblocks.23." in name]
    assert len(last) == 12
    assert not any(tensor.any() for tensor in last)
    back = load_single_file(file, torch.float32, tmp_path / "2").pipe
    for part in ("vae", "unet", "text_encoder"):
        old, new = getattr(pipe, part).state_dict(), getattr(back, part).state_dict()
        assert old.keys() == new.keys()
        assert all(torch.equal(tensor, new[name]) for name, tensor in old.items()), part
    assert back.scheduler.config.prediction_type == "v_prediction"


def tiny_xl() -> StableDiffusionXLPipeline:
    torch.manual_seed(0)
    tokenizer, model = tiny_tokenizer(), tiny_model()
    ids = {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("bos", "eos", "pad")}
    sizes = {"num_hidden_layers": 2, "vocab_size": len(tokenizer), "max_position_embeddings": CONTEXT, **ids}
    first = CLIPTextModel(CLIPTextConfig(hidden_size=16, intermediate_size=32, num_attention_heads=2, **sizes))
    second = CLIPTextModelWithProjection(
        CLIPTextConfig(hidden_size=32, intermediate_size=64, num_attention_heads=2, projection_dim=32, **sizes)
    )
    unet = UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(16, 32),
        layers_per_block=2,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=48,
        attention_head_dim=(2, 4),
        norm_num_groups=4,
        use_linear_projection=True,
        transformer_layers_per_block=(1, 2),
        addition_embed_type="text_time",
        addition_time_embed_dim=4,
        projection_class_embeddings_input_dim=32 + 6 * 4,
    )
    assert isinstance(model.vae, AutoencoderKL)
    parts = {"vae": model.vae, "text_encoder": first, "text_encoder_2": second, "unet": unet}
    return StableDiffusionXLPipeline(**parts, tokenizer=tokenizer, tokenizer_2=tokenizer, scheduler=DDIMScheduler())


def test_sdxl_round_trip_with_both_text_encoders(tmp_path):
    pipe = tiny_xl()
    pipe.save_pretrained(tmp_path / "xl")
    save_file(
        {name: tensor.contiguous() for name, tensor in original_tensors(pipe).items()}, tmp_path / "xl.safetensors"
    )
    assert "conditioner.embedders.1.model.transformer.resblocks.1.attn.in_proj_weight" in load_file(
        tmp_path / "xl.safetensors"
    )
    back = StableDiffusionXLPipeline.from_single_file(
        tmp_path / "xl.safetensors", config=str(tmp_path / "xl"), local_files_only=True
    )
    for part in ("vae", "unet", "text_encoder", "text_encoder_2"):
        old, new = getattr(pipe, part).state_dict(), getattr(back, part).state_dict()
        assert old.keys() == new.keys()
        for name, tensor in old.items():
            assert torch.equal(tensor, new[name]), f"{part} {name}"
