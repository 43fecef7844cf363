"""Each kind of edit by hand, and edits that do not fit."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers.edits import trained
from helpers.tiny import erasure_of, state_bytes

from efface.core.edits import Edit
from efface.core.errors import EffaceError, UnknownNameError
from efface.ops.editing.apply import active_erasures, applied, apply

GATE = {"kind": "similarity", "phrases": ["gun"]}

VECTORS = {" ".join(map(str, shape)): np.ones(shape, "f4") for shape in ((1, 4, 3, 3), (15, 1), (16, 1), (1, 16))}
"""Tensors by their shape."""


AUTOENCODER = {
    "encoder": (64, 24),
    "encoder_bias": (64,),
    "decoder": (24, 64),
    "decoder_bias": (24,),
    "features": (1,),
}
"""Shapes of an autoencoder for a text encoder of width 24."""


def autoencoder(layer):
    """A module edit at a layer of the text encoder, whose width is 32."""
    names = {f"{layer}.{end}": end for end in AUTOENCODER}
    return Edit(
        "text_encoder", "module", names, {}, {"kind": "autoencoder", "active": 4, "strength": 0, "threshold": 1}
    )


WRONG_WIDTH = {end: np.ones(shape, "f4") for end, shape in AUTOENCODER.items()}


def module(kind, layer, gate=None, **shapes):
    """A module edit at a layer of the UNet, with tensors of `VECTORS`."""
    names = {f"{layer}.{end}": " ".join(map(str, shape)) for end, shape in shapes.items()}
    return Edit("unet", "module", names, gate or {}, {"kind": kind})


Z, T = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1)), 321


def test_a_replace_edit_equals_the_student(tiny):
    student = trained(tiny)
    edit, tensors = student.replace_edit()
    cond = tiny.encode(["a gun"])
    with torch.no_grad():
        expected = student.predict(Z, T, cond).value
    with applied(tiny, erasure_of(tiny, [edit], tensors)):
        assert torch.equal(tiny.predict(Z, T, cond).value, expected)


def test_a_low_rank_edit_of_full_rank_equals_the_student(tiny):
    student = trained(tiny, "cross_kv")
    edit, tensors = student.low_rank_edit(32)
    cond = tiny.encode(["a gun"])
    with torch.no_grad():
        expected = student.predict(Z, T, cond).value
    with applied(tiny, erasure_of(tiny, [edit], tensors)):
        torch.testing.assert_close(tiny.predict(Z, T, cond).value, expected, rtol=1e-4, atol=1e-5)


def test_low_rank_by_hand_on_a_convolution(tiny):
    name = "conv_in.weight"
    down, up = np.ones((1, 4, 3, 3), "f4"), np.arange(16, dtype="f4").reshape(16, 1, 1, 1)
    edit = Edit("unet", "low_rank", {f"{name}.down": "d", f"{name}.up": "u"}, params={"scale": 2.0})
    before = tiny.unet.conv_in.weight.detach().clone()
    with applied(tiny, erasure_of(tiny, [edit], {"d": down, "u": up})):
        step = tiny.unet.conv_in.weight - before
    torch.testing.assert_close(
        step.detach(), 2.0 * torch.arange(16.0)[:, None, None, None].expand_as(before), rtol=1e-4, atol=1e-4
    )


def test_state_by_hand(tiny):
    before = tiny.encode(["a gun"])
    matrix, bias = np.diag(np.arange(32, dtype="f4")), np.full(32, 0.5, "f4")
    for tensors in ({"matrix": matrix, "bias": bias}, {"bias": bias}, {"matrix": matrix}):
        edit = Edit("text_encoder", "state", {role: role for role in tensors})
        with applied(tiny, erasure_of(tiny, [edit], tensors)):
            after = tiny.encode(["a gun"])
        scale = torch.arange(32.0) if "matrix" in tensors else 1
        expected = before.states * scale + (0.5 if "bias" in tensors else 0)
        torch.testing.assert_close(after.states, expected, rtol=1e-4, atol=1e-4)
        assert torch.equal(after.pooled, before.pooled)


def test_tensor_names_of_other_transformers_versions_are_resolved(tiny):
    name = "text_model.encoder.layers.0.mlp.fc1.bias"
    with applied(tiny, erasure_of(tiny, [Edit("text_encoder", "replace", {name: "t"})], {"t": np.ones(64, "f4")})):
        assert float(dict(tiny.text_encoder.named_parameters())["encoder.layers.0.mlp.fc1.bias"].min()) == 1


@pytest.mark.parametrize(
    ("edit", "tensors", "match"),
    [
        (Edit("unet", "replace", {"conv_in.bias": "t"}), {"t": np.ones(3, "f4")}, "is \\[16\\] in the model"),
        (Edit("unet", "replace", {"conv_inn.bias": "t"}), {"t": np.ones(16, "f4")}, "nearest is 'conv_in.bias'"),
        (Edit("unet", "replace", {"conv_in.bias": "t", "unet.conv_in.bias": "t"}), {"t": np.ones(16, "f4")}, "twice"),
        (Edit("unet", "replace", {"conv_in.bias": "t"}, params={"scale": 2}), {"t": np.ones(16, "f4")}, "settings"),
        (Edit("unet", "replace", {"conv_in.bias": "t"}, gate={"from": 0.5}), {"t": np.ones(16, "f4")}, "gate"),
        (
            Edit("unet", "low_rank", {"conv_in.bias.up": "t", "conv_in.bias.down": "t"}),
            {"t": np.ones((4, 4), "f4")},
            "do not fit",
        ),
        (
            Edit("unet", "low_rank", {"conv_in.weight.up": "u", "conv_in.weight.down": "d"}),
            {"u": np.ones((16, 2), "f4"), "d": np.ones((3, 36), "f4")},
            "do not fit",
        ),
        (Edit("unet", "module", {"t": "t"}), {"t": np.ones(1, "f4")}, "kind of module"),
        (module("membrane", "conv_in", down=(1, 4, 3, 3), up=(15, 1)), VECTORS, "does not fit 'conv_in'"),
        (module("membrane", "conv_inn", down=(1, 4, 3, 3), up=(16, 1)), VECTORS, "lacks; the nearest is 'conv_in'"),
        (module("membrane", "conv_norm_out", down=(1, 16), up=(16, 1)), VECTORS, "neither linear nor a convolution"),
        (module("membrane", "conv_in", down=(1, 4, 3, 3)), VECTORS, "lacks up"),
        (module("membrane", "conv_in", dwn=(1, 4, 3, 3)), VECTORS, "not 'conv_in.dwn'"),
        (
            module("membrane", "conv_in", gate={"kind": "similarty"}, down=(1, 4, 3, 3), up=(16, 1)),
            VECTORS,
            "did you mean 'similarity'",
        ),
        (
            module("membrane", "conv_in", gate={"kind": "similarity"}, down=(1, 4, 3, 3), up=(16, 1)),
            VECTORS,
            "needs a list of phrases",
        ),
        (
            module("membrane", "conv_in", gate={**GATE, "floor": "high"}, down=(1, 4, 3, 3), up=(16, 1)),
            VECTORS,
            "similarity gate is of a wrong type",
        ),
        (
            Edit("sampler", "guidance", params={"rule": "unguide", "adapter": "a"}),
            {},
            "needs the adapter 'a', which no",
        ),
        (autoencoder("encoder.layers.0"), WRONG_WIDTH, "has a width of 24, the text encoder 32"),
        (autoencoder("encoder.layers.9"), WRONG_WIDTH, "an autoencoder in text_encoder .*lacks; the nearest is"),
        (Edit("sampler", "guidance", params={"rule": "sld", "prompts": ["a"]}, gate=GATE), {}, "takes no gate"),
        (Edit("text_encoder", "state"), {}, "matrix and bias"),
        (Edit("text_encoder", "state", {"matrix": "t"}), {"t": np.ones((2, 3), "f4")}, "square"),
        (Edit("unet", "guidance", params={"rule": "sld"}), {}, "belongs to"),
        (Edit("sampler", "guidance", params={"rule": "sld"}), {}, "list of prompts"),
    ],
)
def test_an_edit_that_does_not_fit_leaves_the_model_as_it_was(tiny, edit, tensors, match):
    valid_edit, valid_tensors = trained(tiny).replace_edit()
    before = state_bytes(tiny)
    with pytest.raises(EffaceError, match=match):
        apply(tiny, erasure_of(tiny, [valid_edit, edit], {**valid_tensors, **tensors}))
    assert state_bytes(tiny) == before
    assert active_erasures(tiny) == ()


def test_misspelt_rules_are_suggested(tiny):
    for params, match in (
        ({"rule": "slt"}, "did you mean 'sld'"),
        ({"rule": "sld", "prompts": ["a"], "guidance_scal": 1}, "did you mean 'guidance_scale'"),
    ):
        with pytest.raises(UnknownNameError, match=match):
            apply(tiny, erasure_of(tiny, [Edit("sampler", "guidance", params=params)]))
