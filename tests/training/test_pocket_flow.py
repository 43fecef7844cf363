"""Pocket-flow: stock FluxPipeline loads the bundled folder, and pocket's judge recognises its images."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from diffusers import FluxPipeline

from efface.detectors.pocket_judge import Judge
from efface.models.model_ref import bundled_folder
from efface.pocket_world import load_world, vocabulary
from pocket_flow.generation import generate, load_pipeline
from pocket_flow.loop import averaged_copy
from pocket_flow.model import CONTEXT, FlowModel
from pocket_flow.tokenizer import SPACE, build_tokenizer
from quality import prompt_groups

FOLDER = bundled_folder("pocket-flow")


@pytest.fixture(scope="module")
def pipe() -> FluxPipeline:
    return load_pipeline(FOLDER)


def test_the_judge_sees_what_the_prompts_name(pipe: FluxPipeline, judge: Judge) -> None:
    rows = prompt_groups(1)["named"][::26][:8]
    assert len({scene.object for _, scene in rows}) == 8
    predicted = judge(generate(pipe, [prompt for prompt, _ in rows], range(100, 108)))
    correct = {
        head: sum(a == getattr(scene, head) for a, (_, scene) in zip(getattr(predicted, head), rows, strict=True))
        for head in ("object", "background", "style")
    }
    assert correct["object"] >= 6
    assert correct["background"] >= 7
    assert correct["style"] >= 7


def test_the_guidance_scale_changes_the_image(pipe: FluxPipeline) -> None:
    prompt = ["a photo of a cat in the snow"]
    weak, strong = (generate(pipe, prompt, [0], guidance_scale=s, num_inference_steps=4) for s in (1.0, 5.0))
    again = generate(pipe, prompt, [0], guidance_scale=1.0, num_inference_steps=4)
    assert torch.equal(weak, again)
    assert (weak - strong).abs().mean() > 0.01


def test_the_tokenizer_splits_unknown_words(pipe: FluxPipeline) -> None:
    tokenizer = pipe.tokenizer_2
    known = tokenizer("a photo of a cat").input_ids
    unknown = tokenizer("a Photo of a zyxquork 猫, naïve!").input_ids
    assert known[-1] == unknown[-1] == tokenizer.eos_token_id
    assert len(known) == 6
    assert known[:4] == unknown[:4]
    assert len(unknown) > 6
    assert max(unknown) < pipe.text_encoder_2.config.vocab_size


def test_the_built_tokenizer_has_the_bundled_pieces(pipe: FluxPipeline, tmp_path: Path) -> None:
    built, bundled = build_tokenizer(tmp_path).get_vocab(), pipe.tokenizer_2.get_vocab()
    assert built.keys() == bundled.keys()
    words = [piece for piece in (SPACE + word.strip(",") for word in vocabulary(load_world())) if len(piece) > 2]
    assert len(words) > 300
    assert [built[word] for word in words] == [bundled[word] for word in words]


def json_strings(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield key
            yield from json_strings(item)
    elif isinstance(value, list):
        for item in value:
            yield from json_strings(item)
    elif isinstance(value, str):
        yield value


def test_the_folder_is_small_and_names_no_absolute_path() -> None:
    files = [path for path in FOLDER.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 12e6
    strings = {
        path.relative_to(FOLDER): [s for s in json_strings(json.loads(path.read_text())) if len(s) > 1 and s[0] == "/"]
        for path in files
        if path.suffix == ".json" and "tokenizer" not in path.parent.name
    }
    assert strings
    assert not any(strings.values()), strings


def test_the_averaged_copy_follows_the_moving_average() -> None:
    model = FlowModel(vocab_size=8)
    ema, average = averaged_copy(model, 0.9)
    before = average.t5.shared.weight.clone()
    with torch.no_grad():
        model.t5.shared.weight.add_(1.0)
    ema.update(model, 100)  # past the warm-up of the decay
    torch.testing.assert_close(average.t5.shared.weight, before + 0.1)
    ids = torch.zeros(1, CONTEXT, dtype=torch.long)
    assert not torch.equal(average.encode(ids), model.encode(ids))
