"""Pipelines for what weights cannot hold: loaded by diffusers without efface, they draw the erasure's images."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.edits import membrane_edit
from helpers.exports import replacing_erasure, save_erasure, state_erasure
from helpers.tiny import erasure_of, tiny_of
from safetensors.torch import load_file, save_file

from efface import api
from efface.core.edits import Edit
from efface.core.errors import EffaceError
from efface.ops.editing.active_gates import active_gates
from efface.ops.editing.apply import applied
from efface.ops.editing.gate_settings import PredictionChangeSettings
from efface.ops.editing.prediction_gate import prediction_change

LAYER = "down_blocks.0.attentions.0.transformer_blocks.0.attn2"
PROMPTS, SEEDS, STEPS, SCALE = ("a gun", "a cat"), (3, 4), 3, 2.0
LOAD = f"""
import sys
sys.modules["efface"] = None  # an import of it fails
import torch
from diffusers import DiffusionPipeline
from safetensors.torch import load_file, save_file
latents = load_file(sys.argv[1])["latents"]
for folder in sys.argv[2:]:
    pipe = DiffusionPipeline.from_pretrained(folder, custom_pipeline=folder, trust_remote_code=True)
    pipe.set_progress_bar_config(disable=True)
    more = {{"num_inference_steps": {STEPS}, "guidance_scale": {SCALE}, "output_type": "pt"}}
    images = [pipe(list({PROMPTS}), latents=latents.clone(), **more).images for _ in range(2)]
    assert torch.equal(*images)
    save_file({{"images": images[0]}}, folder + "/images.safetensors")
"""


def eraser_edit():
    rng, shapes = (
        np.random.default_rng(0),
        {"down.weight": (8, 16), "down.bias": 8, "up.weight": (16, 8), "up.bias": 16},
    )
    tensors = {end: 0.3 * rng.normal(size=shape).astype("f4") for end, shape in shapes.items()}
    return Edit("unet", "module", {f"{LAYER}.{end}": end for end in tensors}, params={"kind": "eraser"}), tensors


def autoencoder_edit(model, threshold):
    """Its features are the states' own channels, of which some are reversed; the gate opens for one prompt."""
    eye, zeros = np.eye(32, dtype="f4"), np.zeros(32, "f4")
    tensors = {"encoder": eye, "encoder_bias": zeros, "decoder": eye, "decoder_bias": zeros}
    tensors["features"] = np.arange(16, dtype="i4")
    names = {f"encoder.layers.0.{end}": f"ae.{end}" for end in tensors}
    params = {"kind": "autoencoder", "active": 8, "strength": -2.0, "threshold": threshold}
    return Edit("text_encoder", "module", names, {}, params), {f"ae.{end}": t for end, t in tensors.items()}


def unguide_erasure(model):
    """UnGuide beside a gated membrane, with a threshold between the changes of the two prompts."""
    lora, tensors = membrane_edit(model, seed=5, role="cross_kv", adapter="unguide:gun", scale=2.0)
    gated, more = membrane_edit(model, ["gun"], seed=6)
    settings = PredictionChangeSettings("unguide:gun", 1.0, 2, 2, 4, 2.0, 1)
    with applied(model, erasure_of(model, [lora, gated], {**tensors, **more})):
        base = prediction_change(model, model.unconditional(1), settings)
        ratios = [float(prediction_change(model, model.encode([prompt]), settings) / base) for prompt in PROMPTS]
    gate = {"kind": "prediction_change", **vars(replace(settings, threshold=sum(ratios) / 2))}
    params = {"rule": "unguide", "adapter": "unguide:gun", "concept_weight": -1.0, "other_weight": 2.0}
    return erasure_of(model, [lora, Edit("sampler", "guidance", {}, gate, params), gated], {**tensors, **more})


def erasures(model):
    """SPM with two gates over replaced weights, Receler, ItD, and UnGuide beside a gated membrane."""
    first, second = membrane_edit(model, ["gun"], seed=1), membrane_edit(model, ["a dog"], seed=2, scale=0.5)
    base = replacing_erasure(model, "cross_kv")
    tensors = {**base.tensors, **first[1], **second[1]}
    return {
        "spm": erasure_of(model, [*base.edits, first[0], second[0]], tensors),
        "receler": erasure_of(model, [eraser_edit()[0]], eraser_edit()[1]),
        "itd": erasure_of(model, *map_pair(autoencoder_edit(model, 0.0))),
        "unguide": unguide_erasure(model),
    }


def map_pair(pair):
    return [pair[0]], pair[1]


@pytest.mark.slow
def test_diffusers_alone_draws_the_images_of_modules_gates_and_guidance(tiny, tmp_path):
    wanted, folders = {}, []
    plain = sample(tiny)
    for name, erasure in erasures(tiny).items():
        with applied(tiny, erasure):
            wanted[name] = sample(tiny)
            logs = [[gate.log[prompt] for prompt in PROMPTS] for gate in active_gates(tiny)]
        assert not torch.allclose(wanted[name], plain, atol=1e-2), name
        assert all(one != other for one, other in logs), logs
        api.export(save_erasure(erasure, tmp_path / f"e-{name}"), tmp_path / name, format="pipeline", model=tiny)
        assert not list((tmp_path / name).rglob("*.bin"))
        folders.append(str(tmp_path / name))
    save_file({"latents": tiny.initial_noise(SEEDS)}, tmp_path / "latents.safetensors")
    environment = {**os.environ, "HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-c", LOAD, str(tmp_path / "latents.safetensors"), *folders]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    for folder in folders:
        name = os.path.basename(folder)
        images = load_file(f"{folder}/images.safetensors")["images"]
        torch.testing.assert_close(
            images, wanted[name], rtol=0, atol=1e-3, msg=lambda text, name=name: f"{name}: {text}"
        )


def sample(model):
    return model.sample(PROMPTS, seeds=SEEDS, num_inference_steps=STEPS, guidance_scale=SCALE)


def test_what_the_pipeline_cannot_hold_is_refused_in_one_line(tiny, tmp_path):
    first, tensors = membrane_edit(tiny, ["gun"])
    state = state_erasure(tiny)
    sld = Edit("sampler", "guidance", params={"rule": "sld", "prompts": ["a gun"]})
    product = replace(first, params={**first.params, "transport": "product"})
    cases = {
        "export it as diffusers": replacing_erasure(tiny, "cross_kv"),
        "the guidance rule 'sld' is not part": erasure_of(tiny, [sld], {}),
        "the product form of transport is not part": erasure_of(tiny, [product], tensors),
        "a gate reads the states that a state edit": erasure_of(
            tiny, [*state.edits, first], {**state.tensors, **tensors}
        ),
    }
    for number, (message, erasure) in enumerate(cases.items()):
        folder = save_erasure(erasure, tmp_path / f"e{number}")
        with pytest.raises(EffaceError, match=message):
            api.export(folder, tmp_path / "out", format="pipeline", model=tiny)
    xl = tiny_of("sdxl")
    edit, tensors = membrane_edit(xl, ["gun"])
    folder = save_erasure(erasure_of(xl, [edit], tensors), tmp_path / "xl")
    with pytest.raises(EffaceError, match="for Stable Diffusion 1 and 2, and this model is a StableDiffusionXL"):
        api.export(folder, tmp_path / "out", format="pipeline", model=xl)
    assert not (tmp_path / "out").exists()
