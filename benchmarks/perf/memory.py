"""Training memory of an erasure: bytes of tensors beyond the model and the pool, relative to the trained tensors.

The trained tensors with gradient and Adam's two moments alone would give 4; activations come on top. The trajectory
pool is listed separately. Usage: ``python benchmarks/perf/memory.py``.
"""

from __future__ import annotations

import gc
import json

import torch
import typer

from efface.core.concept import Concept
from efface.methods.esd import PRESETS, Config
from efface.models.loading import load_model
from efface.ops.targets import negative_guidance
from efface.ops.training.student import Student
from efface.ops.training.trajectory_pool import TrajectoryPool


def live_bytes() -> int:
    """Bytes of all live tensors; shared storage counts once."""
    gc.collect()
    storages = {}
    for item in gc.get_objects():
        if isinstance(item, torch.Tensor) and item.device.type != "meta":
            storage = item.untyped_storage()
            storages[storage.data_ptr()] = storage.nbytes()
    return sum(storages.values())


def main(target_modules: str = "cross_all") -> None:
    """Measure ten steps of ESD on pocket and print JSON."""
    model, config = load_model("pocket"), Config(**PRESETS["pocket"])  # type: ignore[arg-type]
    base = live_bytes()
    prompts = Concept("weapon").render_prompts()
    pool = TrajectoryPool(model, prompts, trajectories_per_prompt=2, num_inference_steps=config.num_inference_steps)
    pooled = live_bytes()
    student = Student(model, target_modules)
    trained = sum(p.nbytes for p in student.parameters())
    optimiser = torch.optim.Adam(student.parameters(), lr=1e-5)
    for _ in range(10):
        batch = pool.sample(8, torch.Generator().manual_seed(0))
        target = negative_guidance(batch.unconditional, batch.conditional, batch.unconditional, 1.0)
        (student.predict(batch.z, batch.t, batch.cond).value - target).square().mean().backward()
        optimiser.step()
    print(json.dumps({
        "model_bytes": base, "pool_bytes": pooled - base, "trained_bytes": trained,
        "beyond_model_and_pool_over_trained": (live_bytes() - pooled) / trained,
    }, indent=2))  # fmt: skip


if __name__ == "__main__":
    typer.run(main)
