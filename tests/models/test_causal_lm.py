"""The adapter of causal language models, on every shape."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from helpers.tiny_language import tiny_language_model

from efface.core.errors import EffaceError
from efface.models.causal_lm import CausalLM
from efface.models.language_layers import select_role
from efface.models.loading import load_model

SHAPES = ("llama", "mistral", "qwen2", "gemma2", "gpt2")


@pytest.fixture(params=SHAPES)
def model(request: pytest.FixtureRequest) -> CausalLM:
    return tiny_language_model(request.param)


def test_hidden_states_mlp_outputs_and_logits_have_their_shapes(model: CausalLM) -> None:
    tokens = model.tokenize(["what is a gun ?", "a cat"])
    assert model.logits(tokens).shape == (*tokens.ids.shape, len(model.tokenizer))
    assert model.hidden_states(tokens, [0, 2])[2].shape == (*tokens.ids.shape, 16)
    assert model.mlp_outputs(tokens, [1])[1].shape == (*tokens.ids.shape, 16)


def test_a_neuron_row_is_the_output_of_that_neuron(model: CausalLM) -> None:
    tokens = model.tokenize(["what is a gun ?"])
    before = model.mlp_outputs(tokens, [1])[1]
    with torch.no_grad():
        model.neuron_outputs(1)[5] += 1.0
    change = model.mlp_outputs(tokens, [1])[1] - before
    assert change.abs().max() > 0
    assert torch.allclose(change, change[..., :1].expand_as(change), atol=1e-6), "one neuron adds one vector"


def test_padding_does_not_change_generated_text(model: CausalLM) -> None:
    alone = model.generate(["a cat"], count=5)
    assert model.generate(["what is a gun used for ?", "a cat"], count=5)[1] == alone[0]


def test_sampling_depends_on_the_generator_alone(model: CausalLM) -> None:
    texts = [
        model.generate(["a cat"], count=8, temperature=1.0, generator=torch.Generator().manual_seed(seed))
        for seed in (1, 1, 2)
    ]
    assert texts[0] == texts[1] != texts[2]


def test_params_replace_tensors_without_writing(model: CausalLM) -> None:
    tokens, group = model.tokenize(["a cat"]), model.parameter_group("mlp_out:1")
    assert len(group.parameters) == 1
    before = model.logits(tokens)
    changed = model.logits(tokens, params=group.as_params({n: p * 0 for n, p in group.parameters.items()}))
    assert not torch.equal(before, changed)
    assert torch.equal(model.logits(tokens), before)


def test_a_saved_folder_loads_through_the_same_door_as_image_models(tmp_path: Path) -> None:
    model = tiny_language_model()
    model.module.save_pretrained(tmp_path)
    model.tokenizer.save_pretrained(tmp_path)
    loaded = load_model(tmp_path, dtype="bfloat16")
    assert isinstance(loaded, CausalLM)
    assert next(loaded.module.parameters()).dtype == torch.bfloat16
    assert load_model((model.module, model.tokenizer)).family == "causal_lm"  # type: ignore[arg-type]


def test_a_spread_model_gives_the_same_logits_and_takes_no_part_off_the_devices(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny_language_model()
    model.module.save_pretrained(tmp_path)
    model.tokenizer.save_pretrained(tmp_path)
    tokens = model.tokenize(["what is a cat ?"])
    spread = load_model(tmp_path, device="auto")
    assert torch.equal(spread.logits(tokens), model.logits(tokens))  # type: ignore[attr-defined]
    options: dict[str, object] = {}

    def load_too_large(*_: object, **given: object) -> tuple[object, object]:
        options.update(given)
        return model.module.to("meta"), model.tokenizer

    monkeypatch.setattr("efface.models.language_loading.load_with_tokenizer", load_too_large)
    with pytest.raises(EffaceError, match="does not fit on the devices"):
        load_model(tmp_path, device="auto")
    assert options == {"device_map": "auto"}


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "tokenizer.json").unlink(), "has no tokenizer"),
        (lambda folder: (folder / "model.safetensors").rename(folder / "model.bin"), "is a pickle"),
        (lambda folder: (folder / "config.json").write_text('{"architectures": ["BertModel"]}'), "no causal language"),
    ],
)
def test_folders_that_are_no_language_model_are_refused_in_one_line(
    tmp_path: Path, damage: object, message: str
) -> None:
    model = tiny_language_model()
    model.module.save_pretrained(tmp_path)
    model.tokenizer.save_pretrained(tmp_path)
    damage(tmp_path)  # type: ignore[operator]
    with pytest.raises(EffaceError, match=message) as error:
        load_model(tmp_path)
    assert "\n" not in str(error.value)


def test_unknown_roles_and_layers_are_refused() -> None:
    model = tiny_language_model()
    with pytest.raises(EffaceError, match="role of a language model"):
        model.parameter_group("cross_kv")
    with pytest.raises(EffaceError, match="layers 0 to 2"):
        model.parameter_group("mlp:1-7")
    with pytest.raises(EffaceError, match="no decoder layers"):
        select_role(torch.nn.Linear(2, 2), "mlp")
