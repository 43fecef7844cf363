"""Where prompts lie in the text encoder's space: the concept, its domain, its neighbours, and what attacks found.

A prompt is its pooled state (EOS), once under the unedited encoder and once under the erased one. Two numbers say where a group lies,
both in that space, not in the image of it: *purity*, the share of its nearest labelled prompts that belong to the concept (name or
domain), and *distance*, its cosine distance from the concept's centroid in units of the concept's own mean distance (1: as central as the
concept's own words; beyond: at the boundary or outside). The image is a t-SNE (van der Maaten and Hinton 2008) of both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from efface.api.validation import build_generator, check_attack_concept, load_artifact_and_benchmark, load_attack_sets
from efface.benchmarks.benchmark import Benchmark
from efface.core.attack_set import SoftPrompt
from efface.core.errors import EffaceError
from efface.core.intervals import clustered_bootstrap
from efface.core.io import atomic_write_json, atomic_write_text
from efface.core.manifest import EVIDENCE
from efface.core.seeds import derive_seed
from efface.models.editable import EditableModel
from efface.models.loading import ModelLike
from efface.ops.editing.apply import applied
from efface.ops.text.soft_prompts import to_soft_tokens

from .plots import Cloud, scatter

CONCEPT = ("name", "domain")
GROUPS = (*CONCEPT, "near", "other")
NEIGHBOURS = 5
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Place:
    """Where one group lies under one encoder: two numbers with their 95 % intervals, and how many prompts."""

    encoder: str
    group: str
    purity: tuple[float, float, float]
    distance: tuple[float, float, float]
    n: int


@dataclass(frozen=True)
class Prompts:
    """Prompts of one group: texts, embeddings in them, and what stands for each in clusters."""

    texts: list[str]
    soft: list[SoftPrompt | None]
    clusters: list[str]


def topology(
    artifact: str | Path, benchmark: str | Path | None = None, *, part: str = "test", limit: int = 96, seed: int = 0,
    model: ModelLike | None = None, force: bool = False,
) -> tuple[list[Place], Path]:  # fmt: skip
    """Measures and draws; writes ``topology.json`` and ``topology.svg`` into the erasure's evidence.

    Args:
        artifact: the erasure's folder, with attack sets in its evidence.
        benchmark: where name, domain, near and other come from; by default the one that fits.
        part: of the benchmark.
        limit: at most so many prompts a group.
        seed: of t-SNE and the bootstrap.
        model: the base model; by default the erasure's own.
        force: whether it may be another one.

    Returns:
        One place for every group and encoder, and the image's path.

    Raises:
        EffaceError: scikit-learn is missing, or what `evaluate` raises.
    """
    tsne = _tsne()
    erasure, found = load_artifact_and_benchmark(artifact, benchmark, part)
    image_generator = build_generator(found, erasure, model, force, False)
    groups = gather_prompts(Path(artifact), found, part, limit)
    spaces = {"original": states(image_generator.model, groups)}
    with applied(image_generator.model, erasure, force=force):
        spaces["erased"] = states(image_generator.model, groups)
    rng = np.random.default_rng(derive_seed(seed, "topology"))
    places = [place for name, space in spaces.items() for place in measure(name, space, groups, rng)]
    folder = Path(artifact) / EVIDENCE / "topology"
    folder.mkdir(parents=True, exist_ok=True)
    about = {
        "benchmark": found.name,
        "part": part,
        "limit": limit,
        "seed": seed,
        "neighbours": NEIGHBOURS,
        "run": erasure.spec.hash,
    }
    atomic_write_json(folder / "topology.json", {**about, "places": [asdict(place) for place in places]})
    clouds = {name: sample_classes(tsne, space, seed) for name, space in spaces.items()}
    atomic_write_text(
        folder / "topology.svg",
        scatter(f"{found.concept.name}: {erasure.spec.method}, the text encoder's space", clouds),
    )
    return places, folder / "topology.svg"


def gather_prompts(artifact: Path, benchmark: Benchmark, part: str, limit: int) -> dict[str, Prompts]:
    """The benchmark's prompts by group, each once, and those of the attack sets in the erasure's evidence."""
    groups = {}
    for group in GROUPS:
        rows = list({row.prompt: row for row in benchmark.rows(part, limit=limit, groups=(group,))}.values())
        groups[group] = Prompts([r.text for r in rows], [None] * len(rows), [r.prompt for r in rows])
    for attack in (check_attack_concept(a, benchmark) for a in load_attack_sets(artifact)):
        some = attack.prompts[:limit]
        groups[attack.attack] = Prompts(
            [p.adversarial_prompt for p in some], [p.soft for p in some], [p.source_prompt for p in some]
        )
    return groups


@torch.no_grad()
def states(model: EditableModel, groups: Mapping[str, Prompts], batch: int = 64) -> dict[str, Array]:
    """The pooled states of every group, as unit vectors ``(n, D)``."""
    found = {}
    for name, prompts in groups.items():
        parts = []
        for start in range(0, len(prompts.texts), batch):
            texts, soft = prompts.texts[start : start + batch], prompts.soft[start : start + batch]
            parts.append(model.encode(texts, soft=to_soft_tokens(model, texts, soft)).pooled.double().cpu().numpy())
        rows = np.concatenate(parts)
        found[name] = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return found


def measure(
    encoder: str, space: Mapping[str, Array], groups: Mapping[str, Prompts], rng: np.random.Generator
) -> list[Place]:
    """Purity and distance of every group; a prompt is not its own neighbour."""
    labelled = np.concatenate([space[group] for group in GROUPS])
    ours = np.concatenate([np.full(len(space[group]), group in CONCEPT) for group in GROUPS])
    centre = np.concatenate([space[group] for group in CONCEPT]).mean(0)
    centre /= np.linalg.norm(centre)
    unit = float(np.mean([1 - row @ centre for group in CONCEPT for row in space[group]])) or 1.0
    places = []
    for group, rows in space.items():
        cosines = rows @ labelled.T
        if group in GROUPS:
            first = sum(len(space[g]) for g in GROUPS[: GROUPS.index(group)])
            cosines[np.arange(len(rows)), first + np.arange(len(rows))] = -np.inf
        nearest = np.argsort(-cosines, axis=1)[:, :NEIGHBOURS]
        purity, distance = ours[nearest].mean(1), (1 - rows @ centre) / unit
        clusters = groups[group].clusters
        places.append(Place(encoder, group, _mean(purity, clusters, rng), _mean(distance, clusters, rng), len(rows)))
    return places


def _mean(values: Array, clusters: Sequence[str], rng: np.random.Generator) -> tuple[float, float, float]:
    low, high = clustered_bootstrap(values, clusters, rng=rng)
    return float(values.mean()), low, high


def sample_classes(tsne: Any, space: Mapping[str, Array], seed: int) -> list[Cloud]:
    """The t-SNE of a space, group by group."""
    every = np.concatenate(list(space.values()))
    perplexity = min(30.0, (len(every) - 1) / 3)
    flat = tsne(n_components=2, perplexity=perplexity, init="pca", metric="cosine", random_state=seed).fit_transform(
        every
    )
    ends = np.cumsum([len(rows) for rows in space.values()])[:-1]
    return [Cloud(name, points.tolist()) for name, points in zip(space, np.split(flat, ends), strict=True)]


def _tsne() -> Any:
    try:
        from sklearn.manifold import TSNE
    except ImportError as error:
        raise EffaceError("the topology needs scikit-learn: pip install 'efface[topology]'") from error
    return TSNE


def as_text(places: Sequence[Place]) -> str:
    """A table for a terminal."""
    lines = [f"{'encoder':9} {'group':18} {'purity':>22} {'distance':>22}  n"]
    for place in places:
        cells = [f"{v:.2f} [{low:.2f}, {high:.2f}]" for v, low, high in (place.purity, place.distance)]
        lines.append(f"{place.encoder:9} {place.group:18} {cells[0]:>22} {cells[1]:>22}  {place.n}")
    return "\n".join(lines)
