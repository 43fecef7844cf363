"""Several processes give the same images, scores and attacks as one process, and fail together."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from helpers import two_processes
from helpers.cli import call
from helpers.small_benchmark import small_benchmark
from helpers.tiny import erasure_of
from safetensors.torch import load_file

from efface.benchmarks.image_cache import ImageCache
from efface.benchmarks.image_generation import ImageGenerator
from efface.benchmarks.samples import Sampler
from efface.core.attack_set import AttackPrompt, AttackSet, AttackTask, Budget
from efface.core.concept import Concept
from efface.core.erasure import Edit, Erasure
from efface.core.errors import EffaceError
from efface.distributed import collectives, env
from efface.distributed.attack_search import local_tasks, merge_attack_sets
from efface.models import pipeline
from efface.ops.tensor_conversion import to_blob

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def artifact(pocket, tmp_path_factory) -> Path:
    """An erasure that adds noise to the cross-attention weights."""
    generator = torch.Generator().manual_seed(0)
    noised = {
        name: p + 0.05 * torch.randn(p.shape, generator=generator)
        for name, p in pocket.parameter_group("cross_kv").parameters.items()
    }
    edit = Edit("unet", "replace", {name: name for name in noised})
    out = tmp_path_factory.mktemp("made") / "weapon"
    erasure = erasure_of(pocket, [edit], {name: to_blob(tensor) for name, tensor in noised.items()})
    replace(erasure, spec=replace(erasure.spec, concepts=(Concept("weapon"),))).save(out)
    return out


def test_two_processes_generate_and_score_the_same_as_one(artifact, tmp_path, capfd, pocket, monkeypatch):
    erasure = Erasure.load(artifact)
    samples = two_processes.samples()
    benchmark = small_benchmark(tmp_path)
    for name in ("one", "cache-0"):  # the first process's cache holds rows of two batches
        list(
            ImageGenerator(
                pocket, Sampler(num_inference_steps=2), ImageCache(tmp_path / f"{name}.sqlite"), batch_size=2
            ).generate(samples[3:5], erasure)
        )
    alone = two_processes.generate_images(tmp_path / "one.sqlite", erasure)
    shutil.copytree(artifact, tmp_path / "a")
    monkeypatch.setenv("EFFACE_CACHE", str(tmp_path / "cache-alone"))
    command = ("evaluate", "--benchmark", benchmark, "--limit", 4, "--model", "pocket", "--json")
    one = json.loads(call(capfd, *command, artifact).out)

    ends = two_processes.run_two_processes(tmp_path, "generate", artifact, tmp_path, *command, tmp_path / "a")
    assert [end.code for end in ends] == [0, 0], [end.err for end in ends]
    shared = [load_file(tmp_path / f"{number}.safetensors") for number in range(2)]
    for tensors in shared:
        assert torch.equal(tensors["images"], alone), "every process has all images, with the same bits as one process"
    assert sorted(int(tensors["num_generated"]) for tensors in shared) == [5, 5], (
        "ten of twelve images were missing: each process generates half"
    )
    assert ImageCache(tmp_path / "cache-1.sqlite")._size == 0, "only the first process caches images"

    assert (ends[1].out, ends[1].err) == ("", ""), "only the first process prints"
    result = json.loads(ends[0].out)
    assert result["scores"] == one["scores"]
    assert {s["metric"]: s["n"] for s in result["scores"]}["rer"] == 4
    saved = [next((folder / "evidence").glob("small-*")) for folder in (artifact, tmp_path / "a")]
    images = [{p.name: p.read_bytes() for p in (folder / "images").iterdir()} for folder in saved]
    assert images[0] == images[1]
    assert (saved[0] / "detections.json").read_bytes() == (saved[1] / "detections.json").read_bytes()


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("inside_out", "steps=2 batch_size=2 random_init_prob=1"),
        pytest.param(
            "outside_in", "num_timesteps=1 steps=2 batch_size=2 num_inference_steps=2", marks=pytest.mark.slow
        ),
        pytest.param("ring_a_bell", "population=8 generations=3", marks=pytest.mark.slow),
        pytest.param("concept_inversion", "steps=2 num_images=2 num_inference_steps=2", marks=pytest.mark.slow),
    ],
)
def test_two_processes_find_the_same_prompts_as_one(name, settings, artifact, tmp_path, capfd, monkeypatch):
    """The processes share searches of single prompts; a search for all prompts runs once."""
    for folder in ("one", "two"):
        shutil.copytree(artifact, tmp_path / folder)
    chosen = [part for setting in settings.split() for part in ("--set", setting)]
    benchmark = small_benchmark(tmp_path)
    command = ("attack", "--attack", name, *chosen, "--benchmark", benchmark, "--limit", 5, "--model", "pocket")
    monkeypatch.setenv("EFFACE_CACHE", str(tmp_path / "cache-alone"))
    call(capfd, *command, tmp_path / "one")
    ends = two_processes.run_two_processes(tmp_path, *command, tmp_path / "two")
    assert [end.code for end in ends] == [0, 0], [end.err for end in ends]
    alone, shared = (
        AttackSet.load(next((tmp_path / folder / "evidence/attacks").glob(f"{name}-*"))) for folder in ("one", "two")
    )
    assert len(shared.prompts) == 5
    assert shared.prompts == alone.prompts
    assert not list((tmp_path / "two").glob(".found-*"))


def test_processes_share_whole_batches():
    tasks = [AttackTask(f"a {i}", "a {}", i) for i in range(7)]
    shares = [local_tasks(tasks, 2, rank, 3) for rank in range(3)]
    assert [[task.seed for task in share] for share in shares] == [[0, 1, 6], [2, 3], [4, 5]]
    assert [len(local_tasks(tasks, 8, rank, 2)) for rank in range(2)] == [7, 0], "fewer batches than processes"
    assert [len(local_tasks(tasks, None, rank, 2)) for rank in range(2)] == [7, 0], "searched together"
    prompts_by_rank = [tuple(AttackPrompt(task.prompt, "y", task.seed) for task in share) for share in shares]
    merged = merge_attack_sets(
        [AttackSet("x", Concept("gun"), prompts, budget=Budget(3, 2.0)) for prompts in prompts_by_rank], tasks
    )
    assert [p.seed for p in merged.prompts] == list(range(7))
    assert merged.budget == Budget(3, 6.0), "the seconds of all of them"


def test_an_error_in_one_process_is_reported_once(artifact, tmp_path):
    command = ("attack", artifact, "--benchmark", small_benchmark(tmp_path), "--limit", 18, "--model", "pocket")
    ends = two_processes.run_two_processes(tmp_path, *command, FAIL="1:memory")
    assert [end.code for end in ends] == [2, 2]
    lines = [line for end in ends for line in end.err.splitlines() if "error" in line]
    assert len(lines) == 1, lines
    assert lines[0].startswith("error: out of memory: 2 images at once are too many: lower batch")
    assert "Traceback" not in ends[0].err + ends[1].err
    assert not list(artifact.glob(".found-*"))
    ends = two_processes.run_two_processes(tmp_path, *command, FAIL="1:bug")
    assert [end.code for end in ends] == [2, 1]
    assert "KeyError: 'a bug'" in ends[1].err, "a bug keeps its traceback"
    assert "Traceback" not in ends[0].err


def test_commands_for_one_process_refuse_a_launcher(tmp_path):
    ends = two_processes.run_two_processes(tmp_path, "erase", "weapon", "--out", tmp_path / "x")
    errors = "".join(end.err for end in ends)
    assert [end.code for end in ends] == [2, 2]
    assert errors.count("error:") == errors.count("\n") == 1
    assert "`efface erase` runs in one process" in errors


def test_only_a_launcher_makes_several_processes(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.setenv("RANK", "3")
    assert (env.world_size(), env.rank()) == (1, 0), "a cluster that sets only some of the variables is not a launcher"
    monkeypatch.setenv("MASTER_ADDR", "x")
    monkeypatch.setenv("MASTER_PORT", "1")
    assert (env.world_size(), env.rank(), env.local_rank(), env.is_main()) == (4, 3, 3, False)
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert pipeline.default_device() == torch.device("cuda", 1)
    with env.single_process():
        assert (env.world_size(), env.is_main()) == (1, True)
        with pytest.raises(EffaceError, match="as it is"), collectives.sync_errors():
            raise EffaceError("as it is")
        assert collectives.broadcast_bytes(b"x") == b"x"
    assert env.world_size() == 4
    monkeypatch.setenv("WORLD_SIZE", "two")
    with pytest.raises(EffaceError, match="WORLD_SIZE='two' is not a number"):
        env.world_size()
