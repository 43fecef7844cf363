"""Positions of prompts in the text encoder's space: the concept, its domain, its neighbours and attack prompts.

A prompt is represented by its pooled state (at EOS) under the original and under the erased text encoder. Two numbers
describe a group of prompts, both computed in that space and not in the plot, a t-SNE (van der Maaten and Hinton 2008)
of both spaces:

- *purity*, the share of concept prompts (groups name and domain) among the nearest benchmark prompts;
- *distance*, the cosine distance from the concept's centroid, in units of the mean distance of the concept's prompts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from efface.api.evaluation_inputs import build_generator, load_attack_sets, load_evaluation_inputs
from efface.benchmarks.benchmark import Benchmark
from efface.core.attack_set import SoftPrompt
from efface.core.intervals import clustered_bootstrap
from efface.core.io import atomic_write_json, atomic_write_text
from efface.core.manifest import EVIDENCE
from efface.core.seeds import derive_seed
from efface.models.editable import EditableModel
from efface.models.model_ref import ModelLike
from efface.ops.editing.apply import applied
from efface.ops.text.soft_prompts import to_soft_tokens

from .plots import PointGroup, scatter_plot

CONCEPT_GROUPS = ("name", "domain")
BENCHMARK_GROUPS = (*CONCEPT_GROUPS, "near", "other")
NUM_NEIGHBOURS = 5
Array = NDArray[np.float64]
Interval = tuple[float, float, float]


@dataclass(frozen=True)
class GroupPosition:
    """Position of one group of prompts in one encoder's space.

    Attributes:
        encoder: ``original`` or ``erased``.
        group: a group of the benchmark, or the name of an attack.
        purity: mean purity in [0, 1], with the bounds of its 95 % interval.
        distance: mean relative distance from the concept's centroid, with the bounds of its 95 % interval.
        n: number of prompts.
    """

    encoder: str
    group: str
    purity: Interval
    distance: Interval
    n: int


@dataclass(frozen=True)
class PromptGroup:
    """The prompts of one group.

    Attributes:
        texts: the prompts.
        soft: embeddings in each prompt that have no text; None without them.
        clusters: a key of each prompt; the bootstrap resamples prompts with equal keys together.
    """

    texts: list[str]
    soft: list[SoftPrompt | None]
    clusters: list[str]


def topology(
    artifact: str | Path, benchmark: str | Path | None = None, *, split: str = "test", limit: int = 96, seed: int = 0,
    model: ModelLike | None = None, allow_base_mismatch: bool = False, allow_benchmark_mismatch: bool = False,
) -> tuple[list[GroupPosition], Path]:  # fmt: skip
    """Measure the positions of prompts; write ``topology.json`` and ``topology.svg`` into the erasure's evidence.

    Args:
        artifact: folder of the erasure, with attack sets in its evidence.
        benchmark: source of the groups name, domain, near and other; by default the erasure's own benchmark.
        split: split of the benchmark.
        limit: maximum number of prompts per group.
        seed: seed of the t-SNE and the bootstrap.
        model: the base model; by default the erasure's own.
        allow_base_mismatch: accept a base model other than the erasure's own.
        allow_benchmark_mismatch: accept a benchmark for another concept or model; the file states it.

    Returns:
        A position for every encoder and group, and the path of the plot.

    Raises:
        EffaceError: any error that `evaluate` raises.
    """
    inputs = load_evaluation_inputs(artifact, benchmark, split, allow_mismatch=allow_benchmark_mismatch)
    erasure, loaded = inputs.erasure, inputs.benchmark
    base = build_generator(loaded, erasure, model, allow_base_mismatch, cache_images=False).model
    groups = gather_prompts(Path(artifact), loaded, split, limit)
    spaces = {"original": encode_groups(base, groups)}
    with applied(base, erasure, allow_base_mismatch=allow_base_mismatch):
        spaces["erased"] = encode_groups(base, groups)
    rng = np.random.default_rng(derive_seed(seed, "topology"))
    positions = [row for name, space in spaces.items() for row in measure_positions(name, space, groups, rng)]
    metadata = {"benchmark": loaded.name, "split": split, "limit": limit, "seed": seed, "neighbours": NUM_NEIGHBOURS}
    metadata["erasure_hash"] = erasure.spec.hash
    metadata |= {"benchmark_mismatch": inputs.mismatch} if inputs.mismatch else {}
    title = f"{loaded.concept.name}: {erasure.spec.method}, the text encoder's space"
    plot = scatter_plot(title, {name: project_groups(space, seed) for name, space in spaces.items()})
    content = {**metadata, "places": [asdict(row) for row in positions]}
    return positions, _write(Path(artifact) / EVIDENCE / "topology", content, plot)


def _write(folder: Path, content: dict[str, object], plot: str) -> Path:
    """Writes positions and plot; returns the plot's path."""
    folder.mkdir(parents=True, exist_ok=True)
    atomic_write_json(folder / "topology.json", content)
    atomic_write_text(folder / "topology.svg", plot)
    return folder / "topology.svg"


def gather_prompts(artifact: Path, benchmark: Benchmark, split: str, limit: int) -> dict[str, PromptGroup]:
    """Gathers the benchmark's prompts by group, each once, and the prompts of the attack sets in the evidence."""
    groups = {}
    for group in BENCHMARK_GROUPS:
        samples = benchmark.samples(split, limit=limit, groups=(group,))
        unique = list({sample.prompt: sample for sample in samples}.values())
        texts, clusters = [sample.text for sample in unique], [sample.prompt for sample in unique]
        groups[group] = PromptGroup(texts, [None] * len(unique), clusters)
    for label, attack_set in load_attack_sets(artifact, benchmark).items():
        prompts = attack_set.prompts[:limit]
        texts, sources = [p.adversarial_prompt for p in prompts], [p.source_prompt for p in prompts]
        groups[label] = PromptGroup(texts, [p.soft for p in prompts], sources)
    return groups


@torch.no_grad()
def encode_groups(model: EditableModel, groups: Mapping[str, PromptGroup], batch_size: int = 64) -> dict[str, Array]:
    """Encodes every group; returns pooled states as unit vectors ``(n, D)``."""
    space = {}
    for name, group in groups.items():
        batches = []
        for start in range(0, len(group.texts), batch_size):
            batch = slice(start, start + batch_size)
            cond = model.encode(group.texts[batch], soft=to_soft_tokens(model, group.soft[batch]))
            batches.append(cond.pooled.double().cpu().numpy())
        states = np.concatenate(batches)
        space[name] = states / np.linalg.norm(states, axis=1, keepdims=True)
    return space


def measure_positions(
    encoder: str, space: Mapping[str, Array], groups: Mapping[str, PromptGroup], rng: np.random.Generator
) -> list[GroupPosition]:
    """Measures purity and distance of every group; a prompt does not count among its own neighbours."""
    labelled = np.concatenate([space[group] for group in BENCHMARK_GROUPS])
    is_concept = np.concatenate([np.full(len(space[group]), group in CONCEPT_GROUPS) for group in BENCHMARK_GROUPS])
    centroid = np.concatenate([space[group] for group in CONCEPT_GROUPS]).mean(0)
    centroid /= np.linalg.norm(centroid)
    unit = float(np.mean([1 - state @ centroid for group in CONCEPT_GROUPS for state in space[group]])) or 1.0
    positions = []
    for group, states in space.items():
        cosines = states @ labelled.T
        if group in BENCHMARK_GROUPS:
            first = sum(len(space[g]) for g in BENCHMARK_GROUPS[: BENCHMARK_GROUPS.index(group)])
            cosines[np.arange(len(states)), first + np.arange(len(states))] = -np.inf
        nearest = np.argsort(-cosines, axis=1)[:, :NUM_NEIGHBOURS]
        clusters = groups[group].clusters
        purity = _mean_interval(is_concept[nearest].mean(1), clusters, rng)
        distance = _mean_interval((1 - states @ centroid) / unit, clusters, rng)
        positions.append(GroupPosition(encoder, group, purity, distance, len(states)))
    return positions


def _mean_interval(values: Array, clusters: Sequence[str], rng: np.random.Generator) -> Interval:
    low, high = clustered_bootstrap(values, clusters, rng=rng)
    return float(values.mean()), low, high


def project_groups(space: Mapping[str, Array], seed: int) -> list[PointGroup]:
    """Projects a space to two dimensions with t-SNE; returns the points by group."""
    from sklearn.manifold import TSNE  # takes seconds to import

    states = np.concatenate(list(space.values()))
    perplexity = min(30.0, (len(states) - 1) / 3)
    tsne = TSNE(n_components=2, perplexity=perplexity, init="pca", metric="cosine", random_state=seed)
    points = tsne.fit_transform(states)
    ends = np.cumsum([len(rows) for rows in space.values()])[:-1]
    return [PointGroup(name, part.tolist()) for name, part in zip(space, np.split(points, ends), strict=True)]


def format_table(positions: Sequence[GroupPosition]) -> str:
    """Formats positions as a table for a terminal."""
    lines = [f"{'encoder':9} {'group':18} {'purity':>22} {'distance':>22}  n"]
    for row in positions:
        purity, distance = (f"{v:.2f} [{low:.2f}, {high:.2f}]" for v, low, high in (row.purity, row.distance))
        lines.append(f"{row.encoder:9} {row.group:18} {purity:>22} {distance:>22}  {row.n}")
    return "\n".join(lines)
