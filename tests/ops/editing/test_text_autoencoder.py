"""Saved autoencoders of text encoders: written, read, taken from an erasure, and refused where they do not fit."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from helpers.tiny import erasure_of, tiny_model, tiny_of

from efface.core.concept import Concept
from efface.core.config import build_config
from efface.core.edits import Edit
from efface.core.errors import EffaceError
from efface.methods.itd import PRESETS, Config, itd
from efface.models.autoencoder import BUNDLED
from efface.models.fingerprint import fingerprint
from efface.ops.editing.apply import active_erasures, applied, apply
from efface.ops.editing.text_autoencoder import TextAutoencoder, load_text_autoencoder
from efface.ops.tensor_conversion import to_blob
from efface.ops.training.run import Run

LAYER, FEATURES, ACTIVE = "encoder.layers.0", 48, 4
SETTINGS = {"layer": 0, "num_features": FEATURES, "num_active": ACTIVE, "top_features": 8, "num_words": 8}


def autoencoder(model, component="text_encoder"):
    """An autoencoder with random weights."""
    encoder, gen = model.components[component], torch.Generator().manual_seed(0)
    width = encoder.config.hidden_size
    shapes = {"encoder": (FEATURES, width), "encoder_bias": (FEATURES,)}
    shapes |= {"decoder": (width, FEATURES), "decoder_bias": (width,)}
    tensors = {role: torch.randn(shape, generator=gen) for role, shape in shapes.items()}
    return TextAutoencoder(component, LAYER, ACTIVE, tensors, fingerprint(encoder))


def edit_of(own, threshold=0.0):
    """The module edit of an autoencoder that turns one feature around, and its tensors."""
    tensors = {**own.tensors, "features": torch.tensor([1], dtype=torch.int32)}
    names = {f"{own.layer}.{role}": f"{own.component}.{role}" for role in tensors}
    params = {"kind": "autoencoder", "active": own.num_active, "strength": -2.0, "threshold": threshold}
    blobs = {f"{own.component}.{role}": to_blob(tensor) for role, tensor in tensors.items()}
    return Edit(own.component, "module", names, params=params), blobs


def load(ref, model, component="text_encoder", layer=LAYER, features=FEATURES, active=ACTIVE):
    return load_text_autoencoder(str(ref), model, component, layer, features, active)


def check_equal(tensors, own):
    assert set(tensors) == set(own.tensors)
    assert all(torch.equal(tensors[role], tensor) for role, tensor in own.tensors.items())


def test_saved_autoencoders_of_two_encoders_are_read_again(tmp_path):
    model = tiny_of("sdxl")
    for component in ("text_encoder", "text_encoder_2"):
        autoencoder(model, component).save(tmp_path / component, model.name)
    for component in ("text_encoder", "text_encoder_2"):
        check_equal(load(tmp_path, model, component), autoencoder(model, component))
    with pytest.raises(EffaceError, match="no autoencoder of text_encoder_2, only of text_encoder: give one"):
        load(tmp_path / "text_encoder", model, "text_encoder_2")


def test_an_erasure_with_another_ones_autoencoder_trains_nothing_and_is_the_same(tiny, tmp_path):
    spec, concepts = erasure_of(tiny, [Edit("sampler", "guidance")]).spec, [Concept("gun", retain_prompts=("a cat",))]
    trained = itd(tiny, concepts, Config(**SETTINGS, steps=2, batch_size=2), Run(spec=spec)).save(tmp_path / "e")
    run = Run(spec=spec)
    again = itd(tiny, concepts, Config(**SETTINGS, autoencoder=str(tmp_path / "e")), run)
    assert "train" not in run.history
    assert again.edits == trained.edits
    assert {name: bytes(blob.data) for name, blob in again.tensors.items()} == {
        name: bytes(blob.data) for name, blob in trained.tensors.items()
    }


def test_a_concept_without_features_of_its_own_is_refused(tiny, tmp_path, monkeypatch):
    autoencoder(tiny).save(tmp_path, "tiny")
    monkeypatch.setattr(f"{itd.__module__}.largest_features", lambda *_: torch.ones(FEATURES, dtype=torch.bool))
    spec = erasure_of(tiny, [Edit("sampler", "guidance")]).spec
    with pytest.raises(
        EffaceError, match=r"every feature of the concept is a retain prompt's, too: raise top_features"
    ):
        itd(
            tiny,
            [Concept("gun", retain_prompts=("a cat",))],
            Config(**SETTINGS, autoencoder=str(tmp_path)),
            Run(spec=spec),
        )


def changed(own, problem):
    tensors = {**own.tensors, "encoder": own.tensors["encoder"][:, :24], "decoder": own.tensors["decoder"][:24]}
    return {
        "width": replace(own, tensors=tensors),
        "encoder": replace(own, base=fingerprint(tiny_model(1).text_encoder)),
        "layer": replace(own, layer="encoder.layers.1"),
        "num_features": own,
        "num_active": replace(own, num_active=5),
    }[problem]


@pytest.mark.parametrize(
    ("problem", "match"),
    [
        ("width", "has a width of 24, text_encoder of tiny 32: give one that was trained on this model, or train one"),
        ("encoder", r"was trained on another text encoder, \d+\.\d% from text_encoder of tiny: give one"),
        ("layer", "has layer 1, the configuration 0: pass --set layer=1"),
        ("num_features", "has num_features 48, the configuration 47: pass --set num_features=48"),
        ("num_active", "has num_active 5, the configuration 4: pass --set num_active=5"),
    ],
)
def test_an_autoencoder_that_does_not_fit_is_refused_in_one_line(tiny, tmp_path, problem, match):
    changed(autoencoder(tiny), problem).save(tmp_path, "tiny")
    with pytest.raises(EffaceError, match=match) as caught:
        load(tmp_path, tiny, features=FEATURES - (problem == "num_features"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"architecture": "jumprelu"}, "is of the architecture 'jumprelu', not topk"),
        ({"normalize_activations": "layer_norm"}, "in ways that efface does not"),
        ({"k": None}, "is incomplete"),
        ({"metadata": {}}, "is incomplete"),
    ],
)
def test_other_kinds_and_incomplete_folders_are_refused(tiny, tmp_path, change, match):
    autoencoder(tiny).save(tmp_path, "tiny")
    path = tmp_path / "cfg.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(EffaceError, match=match):
        load(tmp_path, tiny)


def test_a_folder_without_an_autoencoder_names_what_it_takes(tiny, tmp_path):
    with pytest.raises(EffaceError, match="holds no autoencoder of a text encoder: give an erasure of the method itd"):
        load(tmp_path, tiny)
    with pytest.raises(EffaceError, match="no autoencoder ships for tiny: give one"):
        load("shipped", tiny)


def test_a_second_autoencoder_at_the_layer_is_refused_until_the_first_is_removed(tiny):
    own = autoencoder(tiny)
    first, second = (erasure_of(tiny, *unpacked(edit_of(own, threshold))) for threshold in (0.0, 1.0))
    for _ in range(2):
        with applied(tiny, first):
            with pytest.raises(EffaceError, match=r"another erasure replaces the states behind .*: remove it first"):
                apply(tiny, second)
            assert len(active_erasures(tiny)) == 1


def test_sdxl_reads_the_changed_states_of_both_encoders():
    model = tiny_of("sdxl")
    before = model.encode(["a gun"]).states
    for component, width in (("text_encoder", slice(32)), ("text_encoder_2", slice(32, None))):
        with applied(model, erasure_of(model, *unpacked(edit_of(autoencoder(model, component))))):
            after = model.encode(["a gun"]).states
        is_changed = ~torch.isclose(before, after, rtol=1e-3, atol=1e-3).all(0).all(0)
        assert bool(is_changed[width].any())
        assert int(is_changed.sum()) == int(is_changed[width].sum())


def unpacked(pair):
    edit, tensors = pair
    return [edit], tensors


def test_pockets_autoencoder_ships_and_fits_its_preset(pocket):
    preset = build_config(Config, PRESETS, "pocket", {})
    sizes = preset.num_features, preset.num_active
    tensors = load(preset.autoencoder, pocket, "text_encoder", f"encoder.layers.{preset.layer}", *sizes)
    assert all(bool(tensor.isfinite().all()) for tensor in tensors.values())
    assert sum(path.stat().st_size for path in BUNDLED["pocket"].iterdir()) < 3e6
