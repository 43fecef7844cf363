from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
from helpers.tiny import erasure_of

from efface.benchmarks.benchmark import Benchmark
from efface.core.attack_set import AttackPrompt, AttackSet
from efface.core.edits import Edit
from efface.core.spec import RunSpec
from efface.models.stable_diffusion import StableDiffusionModel
from efface.ops.tensor_conversion import to_blob
from efface.studies.embedding_topology import Prompts, as_text, measure, topology


def test_purity_and_distance_against_a_space_made_by_hand() -> None:
    def near(axis: int, n: int) -> np.ndarray:
        rng = np.random.default_rng(axis)
        rows = np.eye(4)[axis] + 0.01 * rng.standard_normal((n, 4))
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    space = {
        "name": near(0, 8),
        "domain": near(0, 8),
        "near": near(1, 8),
        "other": near(2, 8),
        "attack": near(0, 6),
        "lost": near(3, 6),
    }
    groups = {
        name: Prompts([""] * len(rows), [None] * len(rows), [str(i) for i in range(len(rows))])
        for name, rows in space.items()
    }
    places = {place.group: place for place in measure("original", space, groups, np.random.default_rng(0))}
    assert places["attack"].purity[0] == places["domain"].purity[0] == 1
    assert places["near"].purity[0] == places["other"].purity[0] == 0
    assert places["attack"].distance[0] < 3 < places["lost"].distance[0]
    assert "attack" in as_text(list(places.values()))


@pytest.mark.parametrize("part", ["dev"])
def test_on_pocket_with_an_attack_in_the_evidence(pocket: StableDiffusionModel, tmp_path: Path, part: str) -> None:
    concept = Benchmark.load("pocket-weapon").concept
    sites = pocket.parameter_group("text_mlp:0")
    edit = Edit("text_encoder", "replace", {name: name for name in sites.parameters})
    erasure = erasure_of(pocket, [edit], {name: to_blob(p.detach() * 1.5) for name, p in sites.parameters.items()})
    erasure = type(erasure)(
        RunSpec("pocket", pocket.fingerprint(), "esd", {}, (concept,)), erasure.edits, erasure.tensors
    ).save(tmp_path / "e")  # fmt: skip
    rows = tuple(AttackPrompt("a photo of a weapon", f"a photo of a dagger {i}", i) for i in range(4))
    AttackSet("synonyms", concept, rows).save(tmp_path / "e" / "evidence" / "attacks" / "synonyms")
    places, path = topology(tmp_path / "e", part=part, limit=12, model=pocket)
    found = {(place.encoder, place.group): place for place in places}
    assert found["original", "synonyms"].n == 4
    assert found["original", "name"] != found["erased", "name"]
    assert json.loads(path.with_suffix(".json").read_text())["places"]
    assert len([e for e in ET.fromstring(path.read_text()).iter() if e.tag.endswith("path")]) >= 8
