"""Gates: facilitated transport by hand, the log, and the rows of samplers and pipelines."""

from __future__ import annotations

import pytest
import torch
from helpers.edits import membrane_edit, trained
from helpers.tiny import erasure_of, tiny_of
from torch.nn.functional import cosine_similarity

from efface.core.edits import Edit
from efface.ops.editing.active_gates import active_gates
from efface.ops.editing.apply import applied
from efface.ops.editing.gates import UNKNOWN_TEXT


@pytest.mark.parametrize("family", ["sd1", "sd2", "sdxl"])
def test_the_strength_is_the_larger_of_cosine_and_shared_tokens(family):
    model = tiny_of(family)
    edit, tensors = membrane_edit(model, ["a gun", "dog"])
    with applied(model, erasure_of(model, [edit], tensors)):
        (gate,) = active_gates(model)
        cond, erased = model.encode(["a gun x", "a b", "c"]), model.encode(["a gun", "dog"])
        strengths = gate.strengths(cond)
    cosines = cosine_similarity(cond.states.flatten(1)[:, None], erased.states.flatten(1)[None], dim=-1)
    shared = torch.tensor([[1.0, 0.0], [0.5, 0.0], [0.0, 0.0]])
    torch.testing.assert_close(strengths, torch.maximum(cosines, shared).amax(1).clamp(min=0), rtol=1e-4, atol=1e-5)
    assert gate.log == dict(zip(("a gun x", "a b", "c"), strengths.tolist(), strict=True))


def test_factor_and_floor_change_the_strength(tiny):
    edit, tensors = membrane_edit(tiny, ["dog"])
    plain, changed = edit.gate, {**edit.gate, "factor": 0.5, "floor": 0.2}
    values = []
    for gate in (plain, changed):
        gated = Edit("unet", "module", edit.tensors, gate, edit.params)
        with applied(tiny, erasure_of(tiny, [gated], tensors)):
            values.append(active_gates(tiny)[0].strengths(tiny.encode(["c"])))
    torch.testing.assert_close(values[1], 0.5 * (values[0] - 0.2) / 0.8, rtol=1e-4, atol=1e-5)


def test_a_prompt_is_computed_once_until_the_model_changes(tiny, monkeypatch):
    edit, tensors = membrane_edit(tiny, ["gun"])
    with applied(tiny, erasure_of(tiny, [edit], tensors)):
        (gate,) = active_gates(tiny)
        calls = []
        compute = gate.compute
        monkeypatch.setattr(gate, "compute", lambda cond, ids: (calls.append(len(ids)), compute(cond, ids))[1])
        first = gate.strengths(tiny.encode(["a cat", "a dog"]))
        assert torch.equal(gate.strengths(tiny.encode(["a dog", "a cat", "x"])).flip(0)[1:], first)
        assert calls == [2, 1]
        other = erasure_of(tiny, *_text_edit(tiny))
        with applied(tiny, other):
            assert not torch.allclose(gate.strengths(tiny.encode(["a cat", "a dog"])), first)
        assert torch.equal(gate.strengths(tiny.encode(["a cat", "a dog"])), first)


def _text_edit(model):
    edit, tensors = trained(model, "text_mlp", 0.3).replace_edit()
    return [edit], tensors


def test_learned_states_have_no_tokens(tiny):
    edit, tensors = membrane_edit(tiny, ["gun"])
    with applied(tiny, erasure_of(tiny, [edit], tensors)):
        cond = tiny.encode(["a gun"])
        cond.states[0, 3] += 0.1
        (gate,) = active_gates(tiny)
        assert float(gate.strengths(cond)) < 1
        assert list(gate.log) == [UNKNOWN_TEXT]


@pytest.mark.parametrize("family", ["sd1", "sdxl"])
def test_images_do_not_depend_on_their_batch_and_equal_the_pipelines(family):
    """Both halves of guidance take the strength of the image's own prompt, an empty one too."""
    model = tiny_of(family)
    edit, tensors = membrane_edit(model, ["dog"])
    prompts, seeds = ["a gun", "", "a dog"], [1, 2, 3]
    settings = {"num_inference_steps": 2, "guidance_scale": 3.0}
    with applied(model, erasure_of(model, [edit], tensors)):
        together = model.sample(prompts, seeds=seeds, **settings)
        for i in range(3):
            alone = model.sample([prompts[i]], seeds=[seeds[i]], **settings)[0]
            torch.testing.assert_close(together[i], alone, rtol=1e-3, atol=1e-3)
        (gate,) = active_gates(model)
        assert set(gate.log) == set(prompts)
        if family == "sd1":
            latents = model.initial_noise(seeds)
            images = model.pipe(prompts, latents=latents, output_type="pt", **settings).images
            torch.testing.assert_close(images, together, rtol=1e-3, atol=1e-3)
