"""Closed-form editing at Stable Diffusion 1.5's shapes against the published per-layer loop. ``python benchmarks/perf/closed_form.py``.

Random weights and states; texts are not encoded. The loop is written from the formula as it is published: for every layer it sums the
products of every concept's outputs and states, inverts the same matrix, and multiplies. Both edit the same 32 matrices, in one run; the
ratio is what counts, seconds are this machine's. Peak memory of the Gram is measured for two numbers of captions.
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
from efface.ops.closed_form import GramAccumulator, LowRank, Pairs, Preserve, PriorRefinement, Problem, k_means
from efface.ops.closed_form.to_edits import layered_edit, low_rank_edit

WIDTH, LAYERS = 768, [320] * 10 + [640] * 10 + [1280] * 12


def states(count: int, seed: int) -> Tensor:
    """Columns as a layer norm leaves them: a part that all share, and their own."""
    g = torch.Generator().manual_seed(seed)
    shared = torch.randn(WIDTH, 1, generator=torch.Generator().manual_seed(99))
    return 0.5 * shared + torch.randn(WIDTH, count, generator=g)


def weights() -> dict[str, Tensor]:
    """The 32 matrices that read the text."""
    g = torch.Generator().manual_seed(0)
    return {f"layer.{i}.weight": torch.randn(o, WIDTH, generator=g) / WIDTH**0.5 for i, o in enumerate(LAYERS)}


def layer_by_layer(layers: dict[str, Tensor], source: Tensor, anchor: Tensor, lamb: float) -> dict[str, Tensor]:
    """UCE as published, one layer and one concept at a time."""
    edited = {}
    for name, w in layers.items():
        left, right = lamb * w, lamb * torch.eye(WIDTH)
        for k, a in zip(source.T, anchor.T, strict=True):
            left = left + torch.outer(w @ a, k)
            right = right + torch.outer(k, k)
        edited[name] = left @ torch.inverse(right)
    return edited


def shared(layers: dict[str, Tensor], source: Tensor, anchor: Tensor, lamb: float) -> dict[str, Tensor]:
    """The same by one solve for all layers, applied as a LoRA."""
    edit = Problem(Pairs(source, anchor, torch.ones(source.shape[1])), ridge=lamb).solve().compact()
    left, right = edit.left.float(), edit.right.float()
    return {name: torch.addmm(w, w @ left, right) for name, w in layers.items()}


def timed(work: Callable[[], Any], rounds: int = 3) -> tuple[float, Any]:
    """Seconds of the fastest of some rounds, and what came out."""
    best, out = float("inf"), None
    for _ in range(rounds):
        began = time.perf_counter()
        out = work()
        best = min(best, time.perf_counter() - began)
    return best, out


def with_speed(layers: dict[str, Tensor], concepts: int, retained: int, refine: bool) -> float:
    """Seconds of SPEED for so many concepts, from states to the artifact's tensors."""
    pairs = Pairs(states(concepts, 1), states(concepts, 2), torch.full((concepts,), 1 / concepts))
    kept, empty = states(retained, 3).double(), states(77, 4).double()
    config = speed.Config(ridge=0.05, eigenvalue_threshold=0.8)
    sites: Any = SimpleNamespace(
        parameters={n: w for i, (n, w) in enumerate(layers.items()) if i % 2}, component="unet"
    )

    def work() -> None:
        held = torch.cat([empty[:, :1], k_means(empty[:, 1:], 3, torch.Generator().manual_seed(0))], dim=1)
        if not refine:
            low_rank_edit(
                speed.null_space_problem(pairs, kept @ kept.T / retained, held, config).solve(), sites, shared=False
            )
            return
        provisional, refined, generator = (
            Problem(pairs, ridge=1.0).solve(),
            PriorRefinement(),
            torch.Generator().manual_seed(0),
        )
        edits: dict[str, LowRank] = {}
        for name, w in sites.parameters.items():
            edits[name] = speed.null_space_problem(
                pairs, refined.gram(w.double(), provisional, kept, generator), held, config
            ).solve()
        layered_edit(edits, sites)

    return timed(work, 2)[0]


def gram_memory(captions: int) -> tuple[float, float]:
    """MiB that a Gram of so many captions adds to the peak, and captions a second, without encoding."""
    before, gram, began = peak(), GramAccumulator.empty(WIDTH), time.perf_counter()
    batch = states(77 * 64, 5)
    for _ in range(0, captions, 64):
        gram.add(batch)
    return peak() - before, captions / (time.perf_counter() - began)


def peak() -> float:
    """Peak memory of this process so far, MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main(concepts: int = 200, retained: int = 1352) -> None:
    """Measure and print JSON."""
    memory = {str(n): dict(zip(("added_mib", "captions_a_second"), gram_memory(n), strict=True)) for n in (256, 2560)}
    layers = weights()
    source, anchor = states(concepts, 1), states(concepts, 2)
    slow, published = timed(lambda: layer_by_layer(layers, source, anchor, 0.5), 1)
    fast, ours = timed(lambda: shared(layers, source, anchor, 0.5))
    apart = max(float((ours[n] - published[n]).norm() / published[n].norm()) for n in layers)
    many = timed(lambda: shared(layers, states(1000, 1), states(1000, 2), 0.5))[0]
    whole = timed(
        lambda: Problem(
            Pairs(states(1000, 1), states(1000, 2), torch.ones(1000)), Preserve(states(1000, 3)), 0.5
        ).solve()
    )[0]
    print(json.dumps({
        "concepts": concepts, "matrices": len(LAYERS), "per_layer_loop_seconds": slow, "one_solve_seconds": fast, "ratio": slow / fast,
        "relative_difference": apart, "uce_1000_concepts_seconds": many, "uce_1000_concepts_1000_preserved_solve_seconds": whole,
        "speed_100_concepts_plain_seconds": with_speed(layers, 100, retained, False),
        "speed_100_concepts_refined_seconds": with_speed(layers, 100, retained, True), "retained": retained, "gram": memory,
        "threads": torch.get_num_threads(), "machine": platform.machine(), "torch": torch.__version__,
    }, indent=2))  # fmt: skip


if __name__ == "__main__":
    typer.run(main)
