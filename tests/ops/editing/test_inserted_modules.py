"""Membranes and erasers behind layers: their sums by hand, and many at once."""

from __future__ import annotations

import itertools

import pytest
import torch
from helpers.edits import every_op, membrane_edit, trained
from helpers.tiny import erasure_of, state_bytes, tiny_of
from torch.nn.functional import gelu, linear

from efface.core.composition import compose
from efface.core.edits import Edit
from efface.core.errors import EffaceError
from efface.models.batch_rows import BatchRows, announced_rows
from efface.ops.editing.active_gates import active_gates
from efface.ops.editing.apply import active_erasures, applied, apply, remove
from efface.ops.tensor_conversion import to_blob

LAYER = "down_blocks.0.attentions.0.transformer_blocks.0.attn2"


def membrane(name, down, up, **params):
    edit = Edit("unet", "module", {f"{name}.down": "d", f"{name}.up": "u"}, params={"kind": "membrane", **params})
    return edit, {"d": to_blob(down), "u": to_blob(up)}


@pytest.mark.parametrize("name", ["conv_in", f"{LAYER}.to_q"])
def test_a_membrane_equals_the_low_rank_edit_of_its_weight(tiny, name):
    layer = tiny.unet.get_submodule(name)
    gen = torch.Generator().manual_seed(0)
    down = torch.randn(2, *layer.weight.shape[1:], generator=gen)
    up = torch.randn(len(layer.weight), 2, generator=gen)
    x = torch.randn((1, 4, 8, 8) if name == "conv_in" else (2, 5, layer.weight.shape[1]), generator=gen)
    edit, tensors = membrane(name, down, up, scale=0.5)
    with applied(tiny, erasure_of(tiny, [edit], tensors)), torch.no_grad():
        inserted = layer(x)
    names = {f"{name}.weight.down": "d", f"{name}.weight.up": "u"}
    low_rank = Edit("unet", "low_rank", names, params={"scale": 0.5})
    with applied(tiny, erasure_of(tiny, [low_rank], tensors)), torch.no_grad():
        torch.testing.assert_close(inserted, layer(x), rtol=1e-4, atol=1e-4)


def test_the_product_form_multiplies_the_sums_of_the_factors(tiny):
    """As in SPM's released code: (sum of up) (sum of down), which has cross terms."""
    name = f"{LAYER}.to_q"
    layer, gen = tiny.unet.get_submodule(name), torch.Generator().manual_seed(0)
    wide = layer.in_features
    downs, ups = torch.randn(2, 1, wide, generator=gen), torch.randn(2, layer.out_features, 1, generator=gen)
    x = torch.randn(3, 5, wide, generator=gen)
    with torch.no_grad():
        plain = layer(x)
    erasures = []
    for i in range(2):
        edit, tensors = membrane(name, downs[i], ups[i], transport="product", scale=1.0 + i)
        erasures.append(erasure_of(tiny, [edit], tensors))
    with applied(tiny, erasures[0]), applied(tiny, erasures[1]), torch.no_grad():
        changed = layer(x)
    delta = (ups[0] + 2 * ups[1]) @ (downs[0] + downs[1])
    torch.testing.assert_close(changed - plain, x @ delta.T, rtol=1e-4, atol=1e-4)


def test_an_eraser_reads_the_layers_output(tiny):
    layer, gen = tiny.unet.get_submodule(LAYER), torch.Generator().manual_seed(0)
    shapes = {"down.weight": (8, 16), "down.bias": (8,), "up.weight": (16, 8), "up.bias": (16,)}
    tensors = {end: torch.randn(shape, generator=gen) for end, shape in shapes.items()}
    edit = Edit("unet", "module", {f"{LAYER}.{end}": end for end in tensors}, params={"kind": "eraser"})
    x, states = torch.randn(2, 4, 16, generator=gen), torch.randn(2, 16, 32, generator=gen)
    with torch.no_grad():
        plain = layer(x, states)
        with applied(tiny, erasure_of(tiny, [edit], {end: to_blob(t) for end, t in tensors.items()})):
            changed = layer(x, states)
    hidden = gelu(linear(plain, tensors["down.weight"], tensors["down.bias"]))
    expected = plain + linear(hidden, tensors["up.weight"], tensors["up.bias"])
    torch.testing.assert_close(changed, expected, rtol=1e-4, atol=1e-4)
    wrong = {end: to_blob(t[..., :4]) for end, t in tensors.items()}
    with pytest.raises(EffaceError, match="has a width of 4, the layer 16"):
        apply(tiny, erasure_of(tiny, [edit], wrong))


def test_ten_gated_membranes_at_once_equal_their_sum_and_go_in_any_order(tiny):
    layer = tiny.unet.get_submodule(f"{LAYER}.to_q")
    parts = [membrane_edit(tiny, [word], seed=i) for i, word in enumerate("abcdefghij")]
    before, cond = state_bytes(tiny), tiny.encode(["a gun"])

    added: list[torch.Tensor] = []
    records = [apply(tiny, erasure_of(tiny, [edit], tensors)) for edit, tensors in parts]
    strengths = torch.stack([gate.strengths(cond) for gate in active_gates(tiny)])
    probe = layer.register_forward_hook(lambda _m, args, out: added.append((args[0], out)))
    with torch.no_grad():
        together = tiny.predict(torch.ones(1, 4, 8, 8), 5, cond).value
    probe.remove()
    name = f"{LAYER}.to_q"
    deltas = [t[f"m{i}.{name}.up"] @ t[f"m{i}.{name}.down"] for i, (_, t) in enumerate(parts)]
    weight = layer.weight + sum(g * torch.from_numpy(d) for g, d in zip(strengths, deltas, strict=True))
    x, out = added[0]
    torch.testing.assert_close(out, linear(x, weight), rtol=1e-3, atol=1e-3)
    for record in [records[i] for i in (4, 0, 9, 2, 7, 1, 8, 3, 6)]:
        remove(tiny, record)
    assert active_erasures(tiny) == (records[5],)
    with torch.no_grad():
        one = tiny.predict(torch.ones(1, 4, 8, 8), 5, cond).value
    assert not torch.allclose(one, together)
    remove(tiny)
    assert state_bytes(tiny) == before
    assert not tiny.unet._forward_pre_hooks
    assert not layer._forward_hooks


def test_an_adapter_is_off_in_the_rows_that_a_sampler_says(tiny):
    edit, tensors = membrane_edit(tiny, adapter="lora")
    cond, z = tiny.encode(["a gun", "a cat"]), torch.ones(2, 4, 8, 8)
    with torch.no_grad():
        plain = tiny.predict(z, 5, cond).value
        with applied(tiny, erasure_of(tiny, [edit], tensors)):
            changed = tiny.predict(z, 5, cond).value
            with announced_rows(tiny.unet, BatchRows(cond, (frozenset({"lora"}), frozenset()))):
                both = tiny.predict(torch.cat([z, z]), 5, cond[torch.tensor([0, 1, 0, 1])]).value
    torch.testing.assert_close(both, torch.cat([plain, changed]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("family", ["sd1", "sd2", "sdxl"])
def test_edits_beneath_and_modules_are_removed_in_any_order(family):
    model = tiny_of(family)
    replace, tensors = trained(model, "cross_kv").replace_edit()
    inserted, more = membrane_edit(model, ["gun"])
    parts = [
        erasure_of(model, [replace], tensors),
        erasure_of(model, [inserted], more),
        erasure_of(model, [Edit("sampler", "guidance", params={"rule": "negative_prompt", "prompts": ["a gun"]})]),
    ]
    before, image = state_bytes(model), sample(model)
    for order in itertools.permutations(range(3)):
        records = [apply(model, part) for part in parts]
        assert not torch.allclose(sample(model), image, atol=1e-3)
        for i in order:
            remove(model, records[i])
        assert state_bytes(model) == before
    assert torch.equal(sample(model), image)


def test_an_erasure_of_each_op_together_and_removed_in_any_order(tiny):
    every = every_op(tiny)
    parts = [erasure_of(tiny, [e], {name: every.tensors[name] for name in e.tensors.values()}) for e in every.edits]
    assert [part.edits[0].op for part in parts] == ["replace", "low_rank", "state", "guidance", "module"]
    before, image = state_bytes(tiny), sample(tiny)
    with applied(tiny, compose(parts)):
        together = sample(tiny)
    assert not torch.allclose(together, image, atol=1e-3)
    for shift in range(len(parts)):
        records = [apply(tiny, part) for part in parts]
        torch.testing.assert_close(sample(tiny), together, rtol=0, atol=1e-5)
        for i in range(len(parts)):
            remove(tiny, records[(2 * i + shift) % len(parts)])
        assert state_bytes(tiny) == before
    assert torch.equal(sample(tiny), image)


def sample(model):
    return model.sample(["a gun"], seeds=[1], num_inference_steps=1)
