"""Evaluates language models by EleutherAI's lm-evaluation-harness (extra ``lm-eval``), before and after an erasure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from efface.core.erasure import Erasure
from efface.core.errors import EffaceError
from efface.models.causal_lm import CausalLM
from efface.ops.editing.apply import applied

from .hub_questions import INSTALL, hub_message


def lm_eval_model(model: CausalLM, batch_size: int = 16) -> Any:
    """Returns a model as lm-eval's ``HFLM``; erasures that are applied to the model act on it, too.

    Raises:
        EffaceError: lm-eval is not installed.
    """
    try:
        from lm_eval.models.huggingface import HFLM
    except ImportError as error:
        raise EffaceError(f"lm-eval is not installed: {INSTALL}") from error
    return HFLM(pretrained=model.module, tokenizer=model.tokenizer, batch_size=batch_size)


def run_lm_eval(
    model: CausalLM, tasks: Sequence[Any], *, limit: int | None = None, options: Mapping[str, Any] | None = None
) -> dict[str, dict[str, float]]:
    """Runs tasks such as ``wmdp_bio`` and ``mmlu``; returns each task's metrics.

    Args:
        model: the model, as it is now.
        tasks: names of tasks, or tasks as lm-eval takes them.
        limit: maximum number of samples per task.
        options: further arguments of ``lm_eval.simple_evaluate``.

    Raises:
        EffaceError: lm-eval is not installed, there is no such task, or its dataset does not load.
    """
    adapter = lm_eval_model(model)
    from lm_eval import simple_evaluate

    try:
        found = simple_evaluate(model=adapter, tasks=list(tasks), limit=limit, **(options or {}))
    except Exception as error:
        if isinstance(error, KeyError | ValueError) and "task" in str(error).lower():
            raise EffaceError(f"lm-eval has no task among {list(tasks)}: `lm-eval ls tasks` lists all") from error
        raise EffaceError(hub_message(", ".join(map(str, tasks)), error)) from error
    return {
        task: {name: value for name, value in metrics.items() if isinstance(value, float | int)}
        for task, metrics in found["results"].items()
    }


def lm_eval_before_and_after(
    model: CausalLM, erasure: Erasure, tasks: Sequence[Any], *, limit: int | None = None,
    options: Mapping[str, Any] | None = None,
) -> tuple[dict[str, dict[str, float]], dict[str, dict[str, float]]]:  # fmt: skip
    """Runs tasks without and with an erasure (see `run_lm_eval`); returns the metrics of both."""
    before = run_lm_eval(model, tasks, limit=limit, options=options)
    with applied(model, erasure):
        return before, run_lm_eval(model, tasks, limit=limit, options=options)
