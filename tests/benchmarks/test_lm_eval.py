from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from helpers.tiny_language import tiny_language_model

from efface import api
from efface.benchmarks.language.hub_questions import download_rows
from efface.benchmarks.language.lm_eval import lm_eval_before_and_after, lm_eval_model, run_lm_eval
from efface.benchmarks.language.question_files import read_questions
from efface.core.concept import Concept
from efface.core.erasure import Erasure
from efface.core.errors import EffaceError
from efface.core.question import Question
from efface.models.causal_lm import CausalLM
from efface.ops.editing.apply import applied

QUICK = {"bootstrap_iters": 0}
"""No standard errors, which take most of the time."""
CHOICES = ["bark", "meow", "shoot", "steel"]


def library_that_gives(rows: Any) -> SimpleNamespace:
    def load_dataset(name: str, subset: str | None, split: str) -> Any:
        if isinstance(rows, Exception):
            raise rows
        assert (name, subset, split) == ("org/questions", "wmdp-bio", "test")
        return rows

    return SimpleNamespace(load_dataset=load_dataset)


def test_questions_come_from_a_dataset_of_the_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    rows = [{"question": f"q{i}", "choices": CHOICES, "answer": i} for i in range(4)]
    monkeypatch.setitem(sys.modules, "datasets", library_that_gives(rows))  # type: ignore[arg-type]
    spec = {"hub": "org/questions", "subset": "wmdp-bio", "format": "wmdp", "limit": 2}
    found = read_questions(spec, tmp_path, "b.yaml")
    assert len(found) == 2
    assert found[0] == Question("q1", ("meow",), tuple(CHOICES), 1)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (RuntimeError("Dataset 'org/questions' is a gated dataset on the Hub.\nLog in."), "HF_TOKEN"),
        (RuntimeError("401 Client Error.\nUnauthorized"), "HF_TOKEN"),
        (ValueError("Unknown split\nchoose"), r"does not load \(Unknown split choose\)"),
    ],
)
def test_a_dataset_that_does_not_load_gives_one_line(
    error: Exception, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "datasets", library_that_gives(error))  # type: ignore[arg-type]
    with pytest.raises(EffaceError, match=message) as raised:
        download_rows("org/questions", None, "test")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("name", ["datasets", "lm_eval.models.huggingface"])
def test_a_missing_library_is_named_with_its_extra(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, name, None)  # type: ignore[arg-type]
    with pytest.raises(EffaceError, match=r"pip install 'efface\[lm-eval\]'"):
        download_rows("org/questions", None, "test") if name == "datasets" else lm_eval_model(tiny_language_model())


def write_task(folder: Path) -> dict[str, Any]:
    """Writes rows and returns the settings of a task of lm-eval that reads them."""
    rows = [{"question": "what is a cat ?", "choices": CHOICES, "answer": 1}] * 3
    file = folder / "rows.json"
    file.write_text(json.dumps(rows))
    return {
        "task": "stand_in", "dataset_path": "json", "dataset_kwargs": {"data_files": {"test": str(file)}},
        "test_split": "test", "output_type": "multiple_choice", "doc_to_text": "question: {{question}} answer:",
        "doc_to_choice": "choices", "doc_to_target": "answer",
        "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
    }  # fmt: skip


def favour(model: CausalLM, word: str) -> None:
    """Makes a word the likeliest everywhere."""
    head = model.module.lm_head
    bias = torch.zeros(len(model.tokenizer))
    bias[model.tokenizer(word, add_special_tokens=False).input_ids] = 50.0
    head.register_forward_hook(lambda _module, _given, output: output + bias)


@pytest.mark.slow
def test_lm_eval_measures_a_model_in_memory(tmp_path: Path) -> None:
    pytest.importorskip("lm_eval")
    scores = {}
    for word in ("meow", "bark"):
        model = tiny_language_model()
        favour(model, word)
        scores[word] = run_lm_eval(model, [write_task(tmp_path)], options=QUICK)["stand_in"]["acc,none"]
    assert scores == {"meow": 1.0, "bark": 0.0}


@pytest.mark.slow
def test_lm_eval_measures_an_erasure(tmp_path: Path) -> None:
    pytest.importorskip("lm_eval")
    model = tiny_language_model()
    concept = Concept("gun", retain_prompts=("a cat meow .", "a dog bark ."))
    config = {"layer": 1, "num_texts": 8, "amnesic": 20.0}
    api.erase(concept, out=tmp_path / "e", model=model, method="leace_lm", config=config)  # type: ignore[arg-type]
    erasure = Erasure.load(tmp_path / "e")
    task = write_task(tmp_path) | {"output_type": "loglikelihood", "doc_to_target": "meow"}
    task["metric_list"] = [{"metric": "perplexity", "aggregation": "perplexity", "higher_is_better": False}]
    before, after = lm_eval_before_and_after(model, erasure, [task], options=QUICK)
    with applied(model, erasure):
        changed = run_lm_eval(model, [task], options=QUICK)
    assert after == changed
    assert before != after
