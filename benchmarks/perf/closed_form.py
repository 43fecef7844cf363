"""Closed-form editing at Stable Diffusion 1.5's shapes, relative to the published per-layer loop.

Weights and states are random; no text is encoded. The loop follows the published formula: for every layer it sums the
products of every concept's outputs and states, inverts the same matrix, and multiplies. Both edit the same 32
matrices in one run, and their ratio is the result. Peak memory of the Gram matrix is measured for two numbers of
captions. Usage: ``python benchmarks/perf/closed_form.py``.
"""

from __future__ import annotations

import json
import platform
import resource
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch
import typer
from torch import Tensor

import efface.methods.speed as speed
from efface.ops.closed_form import GramAccumulator, LowRankUpdate, Pairs, Preserve, PriorRefinement, Problem, k_means
from efface.ops.closed_form.to_edits import layered_edit, low_rank_edit

WIDTH = 768
LAYERS = [320] * 10 + [640] * 10 + [1280] * 12


def states(count: int, seed: int) -> Tensor:
    """Random states ``(WIDTH, count)`` with a component that all share, as after a layer norm."""
    g = torch.Generator().manual_seed(seed)
    shared = torch.randn(WIDTH, 1, generator=torch.Generator().manual_seed(99))
    return 0.5 * shared + torch.randn(WIDTH, count, generator=g)


def weights() -> dict[str, Tensor]:
    """The 32 matrices that read the text."""
    g = torch.Generator().manual_seed(0)
    return {f"layer.{i}.weight": torch.randn(o, WIDTH, generator=g) / WIDTH**0.5 for i, o in enumerate(LAYERS)}


def layer_by_layer(layers: dict[str, Tensor], source: Tensor, anchor: Tensor, ridge: float) -> dict[str, Tensor]:
    """UCE as published, one layer and one concept at a time."""
    edited = {}
    for name, w in layers.items():
        left, right = ridge * w, ridge * torch.eye(WIDTH)
        for k, a in zip(source.T, anchor.T, strict=True):
            left = left + torch.outer(w @ a, k)
            right = right + torch.outer(k, k)
        edited[name] = left @ torch.inverse(right)
    return edited


def one_solve(layers: dict[str, Tensor], source: Tensor, anchor: Tensor, ridge: float) -> dict[str, Tensor]:
    """The same edit by one solve for all layers, applied as a LoRA."""
    edit = Problem(Pairs(source, anchor, torch.ones(source.shape[1])), ridge=ridge).solve().compact()
    left, right = edit.left.float(), edit.right.float()
    return {name: torch.addmm(w, w @ left, right) for name, w in layers.items()}


def fastest(work: Callable[[], Any], rounds: int = 3) -> tuple[float, Any]:
    """Seconds of the fastest of several rounds, and the last result."""
    best, result = float("inf"), None
    for _ in range(rounds):
        began = time.perf_counter()
        result = work()
        best = min(best, time.perf_counter() - began)
    return best, result


def time_speed(layers: dict[str, Tensor], concepts: int, retained: int, refine: bool) -> float:
    """Seconds of SPEED for a number of concepts, from states to the artifact's tensors."""
    pairs = Pairs(states(concepts, 1), states(concepts, 2), torch.full((concepts,), 1 / concepts))
    retained_states, empty = states(retained, 3).double(), states(77, 4).double()
    config = speed.Config(ridge=0.05, eigenvalue_threshold=0.8)
    group: Any = SimpleNamespace(
        parameters={n: w for i, (n, w) in enumerate(layers.items()) if i % 2}, component="unet"
    )

    def work() -> None:
        held = torch.cat([empty[:, :1], k_means(empty[:, 1:], 3, torch.Generator().manual_seed(0))], dim=1)
        if not refine:
            low_rank_edit(
                speed.null_space_problem(pairs, retained_states @ retained_states.T / retained, held, config).solve(),
                group,
                shared=False,
            )
            return
        provisional, refined, generator = (
            Problem(pairs, ridge=1.0).solve(),
            PriorRefinement(),
            torch.Generator().manual_seed(0),
        )
        edits: dict[str, LowRankUpdate] = {}
        for name, w in group.parameters.items():
            edits[name] = speed.null_space_problem(
                pairs, refined.gram(w.double(), provisional, retained_states, generator), held, config
            ).solve()
        layered_edit(edits, group)

    return fastest(work, 2)[0]


def gram_memory(captions: int) -> tuple[float, float]:
    """MiB that the Gram matrix of captions adds to the peak, and captions per second without encoding."""
    before, gram, began = peak(), GramAccumulator.empty(WIDTH), time.perf_counter()
    batch = states(77 * 64, 5)
    for _ in range(0, captions, 64):
        gram.add(batch)
    return peak() - before, captions / (time.perf_counter() - began)


def peak() -> float:
    """Peak memory of this process so far, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main(concepts: int = 200, retained: int = 1352) -> None:
    """Measure and print JSON."""
    memory = {str(n): dict(zip(("added_mib", "captions_a_second"), gram_memory(n), strict=True)) for n in (256, 2560)}
    layers = weights()
    source, anchor = states(concepts, 1), states(concepts, 2)
    slow, published = fastest(lambda: layer_by_layer(layers, source, anchor, 0.5), 1)
    fast, ours = fastest(lambda: one_solve(layers, source, anchor, 0.5))
    difference = max(float((ours[n] - published[n]).norm() / published[n].norm()) for n in layers)
    many = fastest(lambda: one_solve(layers, states(1000, 1), states(1000, 2), 0.5))[0]
    with_preserved = fastest(
        lambda: Problem(
            Pairs(states(1000, 1), states(1000, 2), torch.ones(1000)), Preserve(states(1000, 3)), 0.5
        ).solve()
    )[0]
    print(json.dumps({
        "concepts": concepts, "matrices": len(LAYERS), "per_layer_loop_seconds": slow, "one_solve_seconds": fast,
        "ratio": slow / fast,
        "relative_difference": difference, "uce_1000_concepts_seconds": many,
        "uce_1000_concepts_1000_preserved_solve_seconds": with_preserved,
        "speed_100_concepts_plain_seconds": time_speed(layers, 100, retained, False),
        "speed_100_concepts_refined_seconds": time_speed(layers, 100, retained, True),
        "retained": retained, "gram": memory,
        "threads": torch.get_num_threads(), "machine": platform.machine(), "torch": torch.__version__,
    }, indent=2))  # fmt: skip


if __name__ == "__main__":
    typer.run(main)
