"""Perturbed latents: outside of the mask nothing changes, and the mask is the unedited model's."""

from __future__ import annotations

import torch
from helpers.edits import membrane_edit, trained
from helpers.tiny import erasure_of

from efface.core.edits import Edit
from efface.ops.editing.apply import applied
from efface.ops.editing.latent_perturbation import LatentPerturbation, PerturbationSettings, perturb


def test_the_latents_change_within_the_mask_and_keep_their_variance_there():
    gen = torch.Generator().manual_seed(0)
    z, noise = torch.randn(2, 1, 4, 200, 200, generator=gen)
    mask = torch.zeros(1, 1, 200, 200)
    assert torch.equal(perturb(z, mask, noise, 0.5, 1.0), z)
    mask[..., :100] = 1
    changed = perturb(z, mask, noise, 0.5, 1.0)
    assert torch.equal(changed[..., 100:], z[..., 100:])
    torch.testing.assert_close(changed[..., :100].std(), torch.tensor(1.0), rtol=0.02, atol=0.02)
    assert torch.equal(perturb(z, mask, noise, 1.0, 0.5)[..., :100], 0.5 * noise[..., :100])


def test_the_region_is_that_of_the_unedited_model(tiny):
    settings, z = PerturbationSettings(("gun",)), torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    plain = LatentPerturbation(tiny, settings).change_latent(z, 0, 4, 500, [3])
    assert not torch.equal(plain, z)
    assert torch.equal(LatentPerturbation(tiny, settings).change_latent(z, 2, 4, 500, [3]), z)
    parts = [trained(tiny, role, 0.5).replace_edit() for role in ("cross_all", "text_mlp")] + [membrane_edit(tiny)]
    edits, tensors = [edit for edit, _ in parts], {name: t for _, own in parts for name, t in own.items()}
    with applied(tiny, erasure_of(tiny, edits, tensors)):
        over = LatentPerturbation(tiny, settings).change_latent(z, 0, 4, 500, [3])
    torch.testing.assert_close(over, plain, rtol=1e-4, atol=1e-5)


def test_it_acts_while_sampling_and_is_removed(tiny):
    edit = Edit("sampler", "guidance", params={"rule": "irece", "phrases": ["gun"], "strength": 1.0})
    before = tiny.sample(["a cat"], seeds=[1], num_inference_steps=2)
    with applied(tiny, erasure_of(tiny, [edit])):
        assert not torch.allclose(tiny.sample(["a cat"], seeds=[1], num_inference_steps=2), before, atol=1e-3)
    assert torch.equal(tiny.sample(["a cat"], seeds=[1], num_inference_steps=2), before)
