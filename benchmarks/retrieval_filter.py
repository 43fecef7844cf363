"""Measure an unedited model behind a retrieval filter: ``python benchmarks/retrieval_filter.py``.

The filter holds texts about the concept, which the model wrote, and the retain texts. It retrieves the text nearest to
a prompt, by the cosine of TF-IDF vectors of the tokens, and refuses the prompt if that text is about the concept.
Prints the share of questions that still get the right answer, by group, and under the attacks that change prompts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import numpy as np
import torch
import typer
from numpy.typing import NDArray

from efface.api.validation import add_default_retain_sets
from efface.benchmarks.language.answers import free_answers
from efface.benchmarks.language.attack import asked
from efface.benchmarks.language.benchmark import LanguageBenchmark
from efface.core.question import Question
from efface.core.registry import ATTACKS
from efface.execution import resolve_config
from efface.models.causal_lm import FAMILY, CausalLM
from efface.models.loading import load_model
from efface.ops.language.concept_texts import forget_texts, retain_texts
from efface.ops.training.run import Run

PROMPT_ATTACKS = ("paraphrase", "prefill", "few_shot_context")


class RetrievalFilter:
    """Refuses prompts whose nearest text is about the concept."""

    def __init__(self, model: CausalLM, forbidden: Sequence[str], allowed: Sequence[str]) -> None:
        self.tokenizer, self.num_forbidden = model.tokenizer, len(forbidden)
        counts = np.stack([self._counts(text) for text in (*forbidden, *allowed)])
        self.weights = np.log((1 + len(counts)) / (1 + (counts > 0).sum(0)))
        self.texts = self._unit(counts)

    def refuses(self, prompt: str) -> bool:
        """Tells whether the nearest text is about the concept."""
        similarity = self.texts @ self._unit(self._counts(prompt)[None])[0]
        return int(similarity.argmax()) < self.num_forbidden

    def _counts(self, text: str) -> NDArray[np.float64]:
        return np.bincount(self.tokenizer(text).input_ids, minlength=len(self.tokenizer)).astype(float)

    def _unit(self, counts: NDArray[np.float64]) -> NDArray[np.float64]:
        vectors = counts * self.weights
        return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-9)


def right_share(
    model: CausalLM, guard: RetrievalFilter, questions: Sequence[Question], prompts: Sequence[str]
) -> float:
    """Returns the share of prompts that pass the filter and get the right answer."""
    passed = [not guard.refuses(prompt) for prompt in prompts]
    answers = free_answers(model, prompts)
    right = [ok and question.accepts(text) for ok, question, text in zip(passed, questions, answers, strict=True)]
    return sum(right) / len(right)


def main(
    benchmark: Annotated[str, typer.Option(help="Benchmark.")] = "pocket-lm-weapon",
    limit: Annotated[int, typer.Option(help="Maximum number of questions of a group.")] = 36,
) -> None:
    """Measures the filter."""
    model: Any = load_model("pocket-lm")
    test = LanguageBenchmark.load(benchmark).limited(limit)
    concepts = add_default_retain_sets((test.concept,), model.name, of_language=True)
    written = forget_texts(model, concepts, count=256, generator=torch.Generator().manual_seed(0))
    kept = retain_texts(model, concepts, generator=torch.Generator().manual_seed(1))
    guard = RetrievalFilter(model, written, kept)
    for group, questions in test.questions.items():
        share = right_share(model, guard, questions, [question.prompt for question in questions])
        print(f"{group} {share:.2f} n={len(questions)}", flush=True)
    for name in PROMPT_ATTACKS:
        function: Any = ATTACKS.get(name)
        config, _ = resolve_config(function, None, model.name, {}, FAMILY)
        found = function(model, test.concept, test.questions["name"], config, Run(device=model.device))
        rows = asked(test.questions["name"], found)
        share = right_share(model, guard, rows, [prompt.adversarial_prompt for prompt in found.prompts])
        print(f"attack {name} {share:.2f} n={len(rows)}", flush=True)


if __name__ == "__main__":
    typer.run(main)
