"""Memory of an erasure in training: tensors alive beyond the model, over the trained tensors. ``python benchmarks/perf/memory.py``.

One copy of the weights plus the trained tensors with gradient and Adam's two moments would be 4; the pool of trajectories and the
activations of a step come on top and are stated apart.
"""

from __future__ import annotations

import gc
import json

import torch
import typer

from efface.core.concept import Concept
from efface.methods.esd import PRESETS, Config
from efface.models.loading import load_model
from efface.ops.targets import neg_guidance
from efface.ops.training.student import Student
from efface.ops.training.trajectory_pool import TrajectoryPool


def live() -> int:
    """Bytes of all tensors alive, each storage once."""
    gc.collect()
    storages = {}
    for item in gc.get_objects():
        if isinstance(item, torch.Tensor) and item.device.type != "meta":
            storage = item.untyped_storage()
            storages[storage.data_ptr()] = storage.nbytes()
    return sum(storages.values())


def main(sites: str = "cross_all") -> None:
    """Measure ten steps of ESD on pocket and print JSON."""
    model, config = load_model("pocket"), Config(**PRESETS["pocket"])  # type: ignore[arg-type]
    base = live()
    pool = TrajectoryPool(model, Concept("weapon").render_prompts(), runs=2, steps=config.num_inference_steps)
    pooled = live()
    student = Student(model, sites)
    trained = sum(p.nbytes for p in student.parameters())
    optimiser = torch.optim.Adam(student.parameters(), lr=1e-5)
    for _ in range(10):
        batch = pool.sample(8, torch.Generator().manual_seed(0))
        target = neg_guidance(batch.unconditional, batch.conditional, batch.unconditional, 1.0)
        (student.predict(batch.z, batch.t, batch.cond).value - target).square().mean().backward()
        optimiser.step()
    print(json.dumps({
        "model_bytes": base, "pool_bytes": pooled - base, "trained_bytes": trained,
        "beyond_model_and_pool_over_trained": (live() - pooled) / trained,
    }, indent=2))  # fmt: skip


if __name__ == "__main__":
    typer.run(main)
