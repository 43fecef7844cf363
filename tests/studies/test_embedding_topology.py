"""Purity and distance of prompts in the text encoder's space."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers.tiny import erasure_of

from efface.benchmarks.benchmark import Benchmark
from efface.core.attack_set import AttackPrompt, AttackSet
from efface.core.edits import Edit
from efface.core.errors import EffaceError
from efface.core.spec import RunSpec
from efface.models.stable_diffusion import StableDiffusionModel
from efface.ops.tensor_conversion import to_blob
from efface.studies.embedding_topology import PromptGroup, format_table, measure_positions, topology


def unit_vectors_near(axis: int, n: int) -> np.ndarray:
    rng = np.random.default_rng(axis)
    rows = np.eye(4)[axis] + 0.01 * rng.standard_normal((n, 4))
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_purity_and_distance_in_a_constructed_space() -> None:
    axes = {"name": 0, "domain": 0, "near": 1, "other": 2, "attack": 0, "failed attack": 3}
    space = {name: unit_vectors_near(axis, 8) for name, axis in axes.items()}
    groups = {
        name: PromptGroup([""] * len(rows), [None] * len(rows), [str(i) for i in range(len(rows))])
        for name, rows in space.items()
    }
    positions = measure_positions("original", space, groups, np.random.default_rng(0))
    by_group = {position.group: position for position in positions}
    assert by_group["attack"].purity[0] == by_group["domain"].purity[0] == 1
    assert by_group["near"].purity[0] == by_group["other"].purity[0] == 0
    assert by_group["attack"].distance[0] < 3 < by_group["failed attack"].distance[0]
    lines = format_table(positions).splitlines()
    assert len(lines) == 1 + len(space)
    assert "1.00 [1.00, 1.00]" in next(line for line in lines if " attack" in line)


def test_positions_on_pocket_with_an_attack_in_the_evidence(pocket: StableDiffusionModel, tmp_path: Path) -> None:
    concept = Benchmark.load("pocket-weapon").concept
    parameters = pocket.parameter_group("text_mlp:0").parameters
    edit = Edit("text_encoder", "replace", {name: name for name in parameters})
    erasure = erasure_of(pocket, [edit], {name: to_blob(p.detach() * 1.5) for name, p in parameters.items()})
    spec = RunSpec("pocket", pocket.fingerprint(), "esd", {}, (concept,))
    replace(erasure, spec=spec).save(tmp_path / "e")
    prompts = tuple(AttackPrompt("a photo of a weapon", f"a photo of a dagger {i}", i) for i in range(4))
    AttackSet("synonyms", concept, prompts).save(tmp_path / "e" / "evidence" / "attacks" / "synonyms")
    with pytest.raises(EffaceError, match="pocket-animal does not fit this erasure"):
        topology(tmp_path / "e", "pocket-animal", model=pocket)
    positions, path = topology(tmp_path / "e", split="dev", limit=12, model=pocket)
    by_key = {(position.encoder, position.group): position for position in positions}
    assert by_key["original", "synonyms"].n == 4
    assert by_key["original", "name"].distance != by_key["erased", "name"].distance
    assert len(json.loads(path.with_suffix(".json").read_text())["places"]) == len(positions) == 10
    drawing = ET.fromstring(path.read_text())
    crosses = [element for element in drawing.iter() if element.tag.endswith("path")]
    assert len(crosses) == 2 * 4 + 1, "four attack prompts in each of two spaces, and one in the legend"
