"""MACE's parts against what they are said to be, in float64 on a small model."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path

import pytest
import torch
from helpers.tiny import erasure_of, tiny_model
from PIL import Image
from torch import Tensor

from efface.core.concept import Concept
from efface.core.errors import EffaceError, UnknownName
from efface.core.registry import METHODS
from efface.core.spec import RunSpec
from efface.making import make
from efface.methods.mace import Config, attended, mace
from efface.models.unet import UNetModel
from efface.ops.adapter import Adapter
from efface.ops.apply import applied
from efface.ops.attention_maps import attention_maps
from efface.ops.closed_form import (
    EmbeddingBank,
    Fusion,
    GramAccumulator,
    LowRank,
    Preserve,
    co_occurring,
    encoder_mark,
    matched,
    mean_caption,
    smaller_edits,
)
from efface.ops.latents import Latents
from efface.ops.masks import attention_masks, fit, read_masks
from efface.ops.progress import Silent
from efface.ops.run import Run
from efface.ops.schedule import focal


@pytest.fixture(scope="module")
def model() -> UNetModel:
    """Layer norms with values of their own: with zero biases every Gram would be singular."""
    made = tiny_model(dtype=torch.float64)
    generator = torch.Generator().manual_seed(1)
    for name, parameter in made.text_encoder.named_parameters():
        if "final_layer_norm" in name:
            parameter.data.copy_(1 + 0.1 * torch.randn(parameter.shape, generator=generator))
    return made


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("scale", [0.0, 0.3])
def test_fusion_is_the_published_formula_of_each_layer(model: UNetModel, scale: float) -> None:
    """W* = (lambda W_r + sum_j W_j K_j K_j^T + s W C)(lambda I + sum_j K_j K_j^T + s C)^-1 with W_j = W_r + B_j A_j."""
    d, ridge = 32, 0.7
    refined = LowRank(0.3 * drawn(d, 5, seed=1), 0.3 * drawn(5, d, seed=2))
    states = [drawn(d, 40, seed=3), drawn(d, 9, seed=4)]
    kept = drawn(d, 50, seed=5)
    gram = kept @ kept.T
    weights = model.sites("cross_kv").parameters
    adapters = [{n: (drawn(len(w), 2, seed=6 + j), drawn(2, d, seed=8 + j)) for n, w in weights.items()} for j in range(2)]
    preserve = Preserve(gram=scale * gram) if scale else Preserve()
    deltas, condition = Fusion(refined, states, preserve, ridge).solve(weights, adapters)
    assert condition > 1
    eye = torch.eye(d, dtype=torch.float64)
    for name, weight in weights.items():
        start = weight @ (eye + refined.dense())
        left, right = ridge * start + scale * weight @ gram, ridge * eye + scale * gram
        for (up, down), k in zip([a[name] for a in adapters], states, strict=True):
            left, right = left + (start + up @ down) @ k @ k.T, right + k @ k.T
        torch.testing.assert_close(weight + deltas[name], left @ torch.inverse(right), rtol=1e-10, atol=1e-10)


def test_the_smaller_exact_form_is_saved(model: UNetModel) -> None:
    sites = model.sites("cross_kv")
    names = list(sites.parameters)
    deltas = {n: drawn(len(w), 1 if n == names[0] else 32) @ drawn(1 if n == names[0] else 32, 32) for n, w in sites.parameters.items()}
    edits, tensors = smaller_edits(deltas, sites, torch.float64)
    assert [(e.op, len(e.targets)) for e in edits] == [("low_rank", 1), ("replace", len(names) - 1)]
    before = {n: w.detach().clone() for n, w in sites.parameters.items()}
    with applied(model, erasure_of(model, edits, tensors)):
        for name, weight in sites.parameters.items():
            torch.testing.assert_close(weight.detach(), before[name] + deltas[name], rtol=1e-10, atol=1e-10)


def test_tokens_that_two_sentences_share() -> None:
    """BOS 0, end of text and padding 9; 5 is the concept, 6 7 the anchor."""
    here, there = [0, 1, 2, 5, 3, 9, 9, 9], [0, 1, 2, 6, 7, 3, 9, 9]
    assert matched(here, 5, there, 6) == [(0, 0), (1, 1), (2, 2), (4, 5), (5, 6), (6, 7)]
    assert matched([0, 5, 9, 9], 2, [0, 9, 9, 9], 1) == [(0, 0), (2, 1), (3, 2)], "an empty anchor: end of text and padding are left"
    same = matched([0, 1, 9], 2, [0, 1, 9], 2)
    assert same == [(0, 0), (1, 1), (2, 2)], "no place twice where both are equal"
    assert matched([0, 5, 5, 9], 3, [0, 5, 9, 9], 2) == [(0, 0), (1, 1), (3, 2)]


def test_refinement_leaves_out_the_concepts_own_tokens(model: UNetModel) -> None:
    bank = EmbeddingBank.of(model)
    pairs = co_occurring(model, bank, [("a gun by dog", "a cat by dog", "gun")])
    here, there = bank.states("a gun by dog"), bank.states("a cat by dog")
    kept = [i for i in range(16) if i != 2]
    assert torch.equal(pairs.source, here[kept].T)
    assert torch.equal(pairs.anchor, there[kept].T)
    shared = co_occurring(model, bank, [("a cat gun", "a cat dog", "cat gun")])
    assert torch.equal(shared.source, bank.states("a cat gun")[[0, 1, *range(4, 16)]].T), "cat is the concept's, although both have it"
    assert set(shared.texts) == {"cat gun"}


@pytest.mark.parametrize("timesteps", [1000, 500, 100])
def test_timesteps_at_which_a_concept_takes_shape(timesteps: int) -> None:
    density = focal(timesteps)
    t = torch.arange(timesteps, dtype=torch.float64) * 1000 / timesteps
    expected = 1 / (1 + torch.exp(-0.05 * (t - 200))) - 1 / (1 + torch.exp(-0.05 * (t - 400)))
    torch.testing.assert_close(density, expected / expected.sum(), rtol=1e-9, atol=1e-15)
    assert float(density[(t >= 200) & (t <= 400)].sum()) > 0.85
    assert abs(float((density * t).sum()) - 300) < 6
    with pytest.raises(EffaceError, match="the second must be above the first"):
        focal(timesteps, low=400, high=200)


def test_latents_are_noised_at_timesteps_of_a_density(model: UNetModel) -> None:
    latents = Latents(model, drawn(3, 4, 8, 8), torch.arange(3))
    only = torch.zeros(1000)
    only[[250, 333]] = 1
    _, t, _, _ = latents.noised(64, torch.Generator().manual_seed(0), only)
    assert set(t.tolist()) == {250, 333}


def test_recorded_attention_is_that_of_the_layers_and_hooks_are_gone(model: UNetModel) -> None:
    unet, z, cond = model.unet, drawn(2, 4, 8, 8), model.encode(["a gun", "a cat"])
    layers = {n: m for n, m in unet.named_modules() if n.endswith("attn2")}
    seen: dict[str, tuple[Tensor, Tensor]] = {}
    handles = [
        m.register_forward_hook(lambda _m, args, kwargs, out, n=n: seen.update({n: (args[0], out)}), with_kwargs=True)
        for n, m in layers.items()
    ]
    plain = model.predict(z, 300, cond).value
    with attention_maps(model) as maps:
        assert torch.equal(model.predict(z, 300, cond).value, plain)
    for handle in handles:
        handle.remove()
    assert set(maps) == set(layers)
    for name, layer in layers.items():
        x, out = seen[name]
        q, k, v = (f(s).unflatten(-1, (layer.heads, -1)).transpose(1, 2) for f, s in zip(
            (layer.to_q, layer.to_k, layer.to_v), (x, cond.states, cond.states), strict=True))  # fmt: skip
        by_hand = torch.softmax(q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5, dim=-1)
        torch.testing.assert_close(maps[name], by_hand, rtol=1e-12, atol=1e-14)
        torch.testing.assert_close(layer.to_out[0]((by_hand @ v).transpose(1, 2).flatten(2)), out, rtol=1e-10, atol=1e-12)
        assert not layer.to_q._forward_hooks
        assert not layer.to_k._forward_hooks


def test_attention_maps_see_tensors_that_stand_in(model: UNetModel) -> None:
    adapter = Adapter(model, "cross_kv", 2, torch.Generator().manual_seed(0))
    z, cond = drawn(1, 4, 8, 8), model.encode(["a gun"])
    with attention_maps(model) as maps:
        model.predict(z, 300, cond)
        before = {n: m.detach() for n, m in maps.items()}
        adapter.predict(z, 300, cond)
        assert all(torch.equal(maps[n].detach(), m) for n, m in before.items()), "B begins at zero"
        with torch.no_grad():
            for up in adapter.ups.values():
                up.fill_(0.5)
        adapter.predict(z, 300, cond)
        sum(m[..., 2].sum() for m in maps.values()).backward()  # type: ignore[union-attr]
    assert all(not torch.equal(maps[n].detach(), m) for n, m in before.items())
    assert any(float(down.grad.abs().max()) > 0 for down in adapter.downs.values() if down.grad is not None)


def test_the_loss_is_the_norm_at_marked_tokens_within_the_mask() -> None:
    layer = drawn(2, 3, 16, 5).softmax(-1).requires_grad_()
    masks, marked = torch.zeros(2, 8, 8), torch.zeros(2, 5, dtype=torch.bool)
    masks[0, :4], marked[0, [1, 4]] = 1, True
    expected = layer[0][:, :8][..., [1, 4]].norm()
    loss = attended([layer], masks, marked)
    torch.testing.assert_close(loss, expected / 2)
    loss.backward()
    assert bool(layer.grad is not None and layer.grad.isfinite().all()), "a picture without a mask has no gradient, not NaN"


def test_masks(model: UNetModel, tmp_path: Path) -> None:
    half = torch.zeros(1, 8, 8)
    half[:, :, 4:] = 1
    assert fit(half, 16).view(4, 4).tolist() == [[False, False, True, True]] * 4
    clean, cond = drawn(3, 4, 8, 8), model.encode(["a gun"] * 3)
    tokens = torch.zeros(3, 16, dtype=torch.bool)
    tokens[:, 2] = True
    made = attention_masks(model, clean, cond, tokens, torch.Generator().manual_seed(0), threshold=0.999)
    assert made.shape == (3, 8, 8)
    assert bool((made.flatten(1).sum(1) >= 1).all())
    assert float(made.mean()) < 0.5
    for i in range(2):
        Image.new("L", (4, 4), 255 * i).save(tmp_path / f"{i}.png")
    assert read_masks(tmp_path, 2).mean((1, 2)).tolist() == [0, 1]
    with pytest.raises(EffaceError, match="2 masks for 3 pictures"):
        read_masks(tmp_path, 3)


SMALL = {"templates": 0, "steps": 2, "pictures": 2, "sampler_steps": 2, "lr": 1e-2}


def erased(model: UNetModel, **settings: object) -> dict[str, Tensor]:
    concept = Concept("gun", retain=("a cat", "a dog"))
    config = Config(**{**SMALL, **settings})  # type: ignore[arg-type]
    erasure = mace(model, (concept,), config, Run(spec=RunSpec("tiny", model.fingerprint(), "mace", {}, (concept,))))
    with applied(model, erasure):
        return {n: w.detach().clone() for n, w in model.sites("cross_kv").parameters.items()}


def test_a_gram_made_elsewhere(model: UNetModel, tmp_path: Path) -> None:
    """The same captions in a folder are as good as the retain prompts; those of another encoder are refused."""
    folder = GramAccumulator.of_captions(model, ["", "a cat", "a dog"]).save(tmp_path / "gram")
    bank = EmbeddingBank.of(model)
    torch.testing.assert_close(mean_caption(model, bank, (), str(folder)), mean_caption(model, bank, ["a cat", "a dog"]))
    for a, b in zip(erased(model, gram=str(folder)).values(), erased(model).values(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-7)
    GramAccumulator(torch.eye(32, dtype=torch.float64), encoder_mark(tiny_model(seed=3)), 1, 1).save(tmp_path / "other")
    with pytest.raises(EffaceError, match="another text encoder"):
        erased(model, gram=str(tmp_path / "other"))


def test_masks_of_a_folder_and_choices_that_are_none(model: UNetModel, tmp_path: Path) -> None:
    for i in range(2):
        Image.new("L", (16, 16), 255).save(tmp_path / f"{i}.png")
    whole, everywhere = erased(model, mask="folder", masks=str(tmp_path)), erased(model, mask="none")
    assert all(torch.equal(a, b) for a, b in zip(whole.values(), everywhere.values(), strict=True))
    with pytest.raises(EffaceError, match="needs masks"):
        erased(model, mask="folder")
    with pytest.raises(UnknownName, match="attention"):
        erased(model, mask="atention")


class InTheSecond(Silent):
    """Stops the run in the second concept's loop."""

    phase = ""

    def start(self, phase: str, total: int, done: int) -> None:
        self.phase = phase

    def update(self, done: int, losses: Mapping[str, float]) -> None:
        if self.phase.startswith("lora 2") and done == 4:
            raise KeyboardInterrupt


def test_resume_in_the_second_concept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("efface.making.Run", partial(Run, every=2))
    concepts = (Concept("gun", retain=("a cat",)), Concept("a/b", templates=("a {}",)))
    settings = {"preset": "paper", "overrides": {**SMALL, "steps": 6}, "seed": 0, "overwrite": False}

    def run(name: str, resume: bool = False, progress: Silent | None = None) -> bytes:
        out = tmp_path / name
        return make(
            tiny_model(), concepts, out, METHODS.get("mace"), resume=resume, progress=progress, **settings
        ).tensors_path.read_bytes()  # type: ignore[arg-type]

    with pytest.raises(KeyboardInterrupt):
        run("broken", progress=InTheSecond())
    assert sorted(p.name for p in (tmp_path / ".broken.run").iterdir() if p.is_dir()) == ["lora 1 gun-00000006", "lora 2 a-b-00000002"]
    assert run("broken", resume=True) == run("whole")
