"""SPM, Receler, UnGuide and ItD: their formulas by hand."""

from __future__ import annotations

import pytest
import torch
from helpers.tiny import tiny_of

from efface.methods.receler import silence_loss
from efface.methods.spm import sample_anchor_states
from efface.models.conditioning import Conditioning
from efface.models.guidance_hooks import GuidedStep
from efface.ops.adversarial.adversarial_states import AdversarialStates
from efface.ops.editing.autoencoder import deactivate, encode_features, reconstruction_error
from efface.ops.editing.guidance_rules import UnGuidance
from efface.ops.editing.row_strengths import Insertion
from efface.ops.training.inserted_student import InsertedStudent
from efface.ops.training.topk_autoencoder import TopKAutoencoder, geometric_median

Z = torch.ones(1, 4, 8, 8)


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.mark.parametrize("family", ["sd1", "sd2", "sdxl"])
def test_membranes_are_at_every_matrix_of_the_attention_blocks_and_change_nothing_at_first(family):
    model = tiny_of(family)
    student = InsertedStudent.membranes(model, "attn_blocks", 1, generator(), Insertion("membrane"))
    kinds = (torch.nn.Linear, torch.nn.Conv2d)
    blocks = [n for n, m in model.unet.named_modules() if ".attentions." in n and isinstance(m, kinds)]
    assert {name.rpartition(".")[0] for name in student.trainable_params} == set(blocks)
    cond = model.encode(["a gun"])
    with torch.no_grad(), student:
        assert torch.equal(student.predict(Z, 5, cond).value, model.predict(Z, 5, cond).value)


def test_erasers_change_nothing_at_first(tiny):
    student, cond = InsertedStudent.erasers(tiny, 8, generator()), tiny.encode(["a gun"])
    with torch.no_grad(), student:
        assert torch.equal(student.predict(Z, 5, cond).value, tiny.predict(Z, 5, cond).value)


def test_anchor_states_are_about_as_long_as_the_concepts_and_rarer_near_them():
    states = torch.tensor([[[3.0, 4.0]]])
    anchors = sample_anchor_states(Conditioning(states, states[:, 0]), 200, generator()).states
    lengths = anchors.flatten(1).norm(dim=1) / states.norm()
    assert 0.8 <= float(lengths.min()) < 0.85
    assert 1.15 < float(lengths.max()) <= 1.2
    cosines = anchors.flatten(1) @ states.flatten() / (anchors.flatten(1).norm(dim=1) * states.norm())
    assert float(cosines.mean()) < -0.3, "a state of cosine x is kept with probability 1 - x, so that the mean is -1/2"


def test_erasers_are_silent_outside_of_the_mask():
    mask = torch.tensor([[1.0, 0.0, 0.0, 0.0]])
    output = torch.tensor([[[9.0, 9.0], [1.0, 3.0], [0.0, 0.0], [2.0, 0.0]]])
    torch.testing.assert_close(silence_loss([output, 2 * output], mask), torch.tensor((7 / 3 + 28 / 3) / 2))


def test_learned_states_replace_those_from_the_end_of_text_on():
    learned = AdversarialStates(3, 4, generator(), torch.zeros(1))
    cond = Conditioning(torch.zeros(2, 6, 4), torch.zeros(2, 4))
    states = learned.insert(cond, torch.tensor([2, 5])).states
    assert torch.equal(states[0, 2:5], learned.states[0])
    assert torch.equal(states[1, 5], learned.states[0, 0])
    assert int(torch.count_nonzero(states.abs().sum(-1))) == 4
    before = learned.states.detach().clone()
    learned.improve(1, lambda: learned.insert(cond, torch.tensor([2, 5])).states.square().mean())
    assert not torch.equal(learned.states, before)


def test_unguidance_mixes_both_guided_predictions():
    c, u, c0, u0 = torch.randn(4, 1, 4, 2, 2, generator=generator())
    rule = UnGuidance("a", concept_weight=-1.0, other_weight=2.0).new_rule()
    guided, base = u + 3.0 * (c - u), u0 + 3.0 * (c0 - u0)
    for strength, weight in ((1.0, -1.0), (0.0, 2.0)):
        step = GuidedStep(0, 10, 5, 3.0, c, u, (), without={"a": (c0, u0)}, strength=torch.full((1, 1, 1, 1), strength))
        torch.testing.assert_close(rule(guided, step), weight * base + (1 - weight) * guided, rtol=1e-4, atol=1e-5)


def test_an_autoencoder_scales_the_features_and_leaves_bos():
    """With the identity as decoder, the features are the state's largest positive entries."""
    eye, zeros = torch.eye(4), torch.zeros(4)
    tensors = {
        "encoder": eye,
        "encoder_bias": zeros,
        "decoder": eye,
        "decoder_bias": zeros,
        "features": torch.tensor([1]),
    }
    states = torch.tensor([[[1.0, 2.0, 3.0, 4.0], [1.0, 5.0, -9.0, 4.0]]])
    assert encode_features(states, tensors, 2)[0, 1].tolist() == [0, 5, 0, 4]
    changed = deactivate(states, tensors, 2, -2.0)
    assert changed.tolist() == [[[1, 2, 3, 4], [0, -10, 0, 4]]]
    assert float(reconstruction_error(states, changed)) == (1 + 225 + 81) / 4


def test_an_autoencoder_learns_sparse_states():
    gen = generator()
    directions = torch.nn.functional.normalize(torch.randn(16, 8, generator=gen), dim=1)
    chosen = torch.randint(16, (512,), generator=gen)
    states = 3 * directions[chosen] + 0.5
    autoencoder = TopKAutoencoder(states, 32, 1, 8, gen)
    optimiser = torch.optim.Adam(autoencoder.parameters.values(), lr=1e-2)
    first = float(autoencoder.loss(states, 20))
    for _ in range(150):
        loss = autoencoder.loss(states, 20)
        loss.backward()
        autoencoder.remove_radial_gradient()
        optimiser.step()
        optimiser.zero_grad()
        autoencoder.normalise()
    assert float(autoencoder.loss(states, 20)) < 0.3 * first
    torch.testing.assert_close(autoencoder.parameters["decoder"].norm(dim=0), torch.ones(32), rtol=1e-4, atol=1e-4)


def test_the_geometric_median_ignores_an_outlier():
    points = torch.tensor([[0.0, 0.0], [0.1, 0.0], [0.0, 0.1], [100.0, 100.0]])
    assert float(geometric_median(points).norm()) < 0.2
