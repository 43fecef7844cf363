"""Benchmark, evaluation, report, verdict and export of a tiny language model's erasure."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.language_benchmark import question, write_benchmark
from helpers.tiny_language import tiny_language_model

from efface import api
from efface.benchmarks.language.answers import is_fluent
from efface.benchmarks.language.benchmark import LanguageBenchmark, language_benchmark_names
from efface.benchmarks.language.evaluation import MATCH
from efface.core.concept import Concept
from efface.core.erasure import Erasure
from efface.core.errors import EffaceError
from efface.core.question import Question
from efface.core.result import Result, Score
from efface.core.verdict import Verdict
from efface.models.causal_lm import CausalLM
from efface.ops.editing.apply import applied
from efface.reporting.next_step import next_step
from efface.reporting.plain_words import plain_words


def test_evaluation_report_and_texts(model: CausalLM, erasure: Path, tmp_path: Path) -> None:
    result = api.evaluate(erasure, write_benchmark(tmp_path), model=model)  # type: ignore[arg-type]
    groups = {(score.metric, score.group) for score in result.scores}
    assert {("rer", "name"), ("retention", "near"), ("retention", "context"), ("harmonic_mean", "all")} <= groups
    page = api.report(erasure).read_text()
    assert "Texts, before and after" in page
    assert "No images were saved" not in page
    assert "what is a gun made of ?" in page


def test_an_edit_of_states_is_not_exported(model: CausalLM, erasure: Path, tmp_path: Path) -> None:
    with pytest.raises(EffaceError, match="acts on hidden states"):
        api.export(erasure, tmp_path / "x", model=model)  # type: ignore[arg-type]


def test_an_export_loads_as_the_edited_model(model: CausalLM, tmp_path: Path) -> None:
    from efface.models.loading import load_model
    from efface.ops.editing.apply import applied

    concept = Concept("gun", retain_prompts=("a cat meow .",))
    config = {"steps": 2, "num_texts": 8, "learning_rate": 1e-2}
    saved = api.erase(concept, out=tmp_path / "e", model=model, method="npo", config=config)  # type: ignore[arg-type]
    api.export(tmp_path / "e", tmp_path / "x", model=model)  # type: ignore[arg-type]
    exported: Any = load_model(tmp_path / "x")
    tokens = model.tokenize(["what is a gun ?"])
    with applied(model, saved):
        assert torch.equal(exported.logits(tokens), model.logits(tokens))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"questions": {"name": [], "other": []}}, "no questions of the group 'name'"),
        (
            {"questions": {"name": [question("a gun ?", "it", "g")], "other": [question("a", "it", "x")] * 2}},
            "one answer",
        ),
        ({"concept": {"name": "cat"}}, "is for 'cat', which this erasure does not erase"),
        ({"model": "pocket-lm"}, "is for pocket-lm, not for"),
        ({"extra": 1}, "benchmark field"),
    ],
)
def test_bad_benchmarks_are_refused_in_one_line(
    changes: dict[str, Any], message: str, model: CausalLM, erasure: Path, tmp_path: Path
) -> None:
    with pytest.raises(EffaceError, match=message) as error:
        api.evaluate(erasure, write_benchmark(tmp_path, **changes), model=model)  # type: ignore[arg-type]
    assert "\n" not in str(error.value)


def test_shipped_benchmarks_load_and_never_ask_in_trained_words() -> None:
    for name in language_benchmark_names():
        benchmark = LanguageBenchmark.load(name)
        questions = [row for rows in benchmark.questions.values() for row in rows]
        assert len(questions) > 250
        assert all(row.options[row.right] in row.answers for row in questions)
        assert all(row.text not in row.paraphrases for row in questions)


def test_answers_are_compared_without_articles_and_case() -> None:
    row = Question("what is it ?", ("to cut bread",))
    assert row.accepts("Cut bread. and more")
    assert not row.accepts("to cut")


def test_fluency_refuses_noise() -> None:
    assert is_fluent("to cut bread.")
    assert not is_fluent("bread bread bread.")
    assert not is_fluent("to cut bread and so on without an end")


def test_a_benchmark_states_its_split(model: CausalLM, erasure: Path, tmp_path: Path) -> None:
    with pytest.raises(EffaceError, match="split 'train': give test or dev"):
        LanguageBenchmark.load(write_benchmark(tmp_path, split="train"))
    path = write_benchmark(tmp_path, split="dev")
    result = api.evaluate(erasure, path, model=model)  # type: ignore[arg-type]
    assert result.metadata["benchmark"]["split"] == "dev"
    assert {LanguageBenchmark.load(name).split for name in ("pocket-lm-tool", "pocket-lm-vampire")} == {"dev"}


def test_verdict_and_advice_speak_of_questions(model: CausalLM, erasure: Path, tmp_path: Path) -> None:
    result = api.evaluate(erasure, write_benchmark(tmp_path), model=model)  # type: ignore[arg-type]
    verdict = Verdict.of(result.scores)
    rates = [Score("rer", "name", 0.8, 0.7, 0.9, 40, MATCH), Score("asr_post", "paraphrase", 0.5, 0.4, 0.6, 40, MATCH)]
    sentences = plain_words(Result((*rates, Score("retention", "near", 1.0, 0.9, 1.0, 40, MATCH))), Concept("gun"))
    assert sentences == [
        "1 of 5 questions about gun are still answered.",
        "Of the other questions, all about near neighbours are still answered.",
        "1 of 2 questions are answered under the attack paraphrase.",
    ]
    texts = [verdict.summary(), str(next_step(verdict, result, "e"))]
    assert "at least 30 questions are needed" in texts[0]
    assert not any("image" in text for text in texts)


def test_a_lora_is_exported_as_a_peft_adapter(tmp_path: Path) -> None:
    from peft import PeftModel

    model = tiny_language_model()
    concept = Concept("gun", retain_prompts=("a cat meow .", "a dog bark ."))
    config = {"steps": 2, "rank": 2, "num_texts": 8, "max_length": 12, "target_modules": "attn_mlp:0-1"}
    out = tmp_path / "e"
    api.erase(concept, out=out, model=model, method="elm", config=config | {"learning_rate": 0.05})  # type: ignore[arg-type]
    api.export(out, tmp_path / "adapter", format="peft", model=model)  # type: ignore[arg-type]
    tokens = model.tokenize(["what is a gun ?"])
    with torch.no_grad():
        plain = model.logits(tokens)
        with applied(model, Erasure.load(out)):
            edited = model.logits(tokens)
        adapted = PeftModel.from_pretrained(tiny_language_model().module, tmp_path / "adapter")
        torch.testing.assert_close(adapted(input_ids=tokens.ids).logits, edited, atol=1e-4, rtol=1e-3)
    assert not torch.allclose(plain, edited, atol=1e-3)


def test_an_edit_of_states_is_no_adapter(model: CausalLM, erasure: Path, tmp_path: Path) -> None:
    with pytest.raises(EffaceError, match="a LoRA cannot hold the state edit of leace_lm"):
        api.export(erasure, tmp_path / "x", format="peft", model=model)  # type: ignore[arg-type]
