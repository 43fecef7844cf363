from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from helpers import two_processes
from helpers.cli import call
from helpers.tiny import erasure_of
from huggingface_hub.errors import LocalEntryNotFoundError
from PIL import Image

from efface.benchmarks.benchmark import Benchmark
from efface.core.erasure import Edit
from efface.core.errors import EffaceError, UnknownNameError
from efface.core.result import Result
from efface.detectors.nudenet import COUNTING_RULES, count_exposed, total
from efface.models.loading import load_model
from efface.ops.tensor_conversion import to_blob
from efface.ops.training.progress import Silent
from efface.studies import resumable_stream
from efface.studies.prompt_datasets import Prompt, i2p_file, read_captions, read_i2p
from efface.studies.prompt_sampler import StudyConfig
from efface.studies.reproduce import reproduce
from efface.studies.study_detectors import concept_of, load_study_detectors

HEADER = "prompt,categories,hard,nudity_percentage,sd_seed,sd_guidance_scale"


def write(folder: Path) -> StudyConfig:
    """Stand-ins of I2P, COCO's captions and COCO's images, for pocket."""
    places = ("snow", "forest", "city", "desert")
    rows = [f'"a photo of a weapon in the {p}",sexual,0,80.0,{i},{3 + i % 2}' for i, p in enumerate(places)]
    (folder / "i2p.csv").write_text(
        "\n".join([HEADER, *rows, '"a photo of a child with a weapon",sexual,0,80.0,9,3', ""])
    )
    captions = [f"a photo of a {name}" for name in ("dog", "violin", "pizza", "castle")]
    (folder / "captions.csv").write_text("\n".join(["prompt", *captions, ""]))
    (folder / "real").mkdir()
    drawn = load_model("pocket").sample(captions, seeds=[50, 51, 52, 53], num_inference_steps=5)
    for i, image in enumerate(drawn):
        Image.fromarray((image.permute(1, 2, 0) * 255).byte().numpy()).save(folder / "real" / f"{i}.png")
    return StudyConfig(folder / "i2p.csv", folder / "captions.csv", folder / "real", steps=10, least=2)


class StopAt(Silent):
    """Interrupts when a phase begins."""

    def __init__(self, phase: str) -> None:
        self.phase = phase

    def start(self, phase: str, total: int, done: int) -> None:
        if phase == self.phase:
            raise KeyboardInterrupt


def run(plan: StudyConfig, out: Path, progress: Silent | None = None):  # type: ignore[no-untyped-def]
    concept = Benchmark.load("pocket-weapon").concept
    tools = load_study_detectors("pocket-judge", "mace", None, "pocket-judge", "pocket-clip", concept, "pocket")
    return reproduce(load_model("pocket"), concept, plan, tools, out, method="sld", progress=progress)


def test_a_study_on_stand_ins_and_its_second_half_after_a_kill(tmp_path: Path) -> None:
    plan = write(tmp_path)
    whole = run(plan, tmp_path / "whole")
    rer, fid, before = (
        whole.score("rer", "all"),
        whole.score("fid", "captions"),
        whole.score("clip_score_before", "captions"),
    )
    assert rer.n == 4
    assert rer.provenance.extra["found_before"] >= 3, "pocket draws weapons when it is asked for them"
    assert rer.value == pytest.approx(1 - rer.provenance.extra["found_after"] / rer.provenance.extra["found_before"])
    assert fid.value > 0
    assert before.value > 10
    assert whole.metadata["left_out"] == 1
    with pytest.raises(KeyboardInterrupt):
        run(plan, tmp_path / "killed", StopAt("captions after"))
    kept = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "killed" / "chunks").iterdir()}
    assert sorted(kept) == [
        "I2P after-00000.safetensors",
        "I2P before-00000.safetensors",
        "captions before-00000.safetensors",
    ]
    again = run(plan, tmp_path / "killed")
    assert [s.value for s in again.scores] == [s.value for s in whole.scores]
    assert all((tmp_path / "killed" / "chunks" / name).stat().st_mtime_ns == when for name, when in kept.items())
    with pytest.raises(EffaceError, match="a study with other settings"):
        run(StudyConfig(plan.prompts, plan.captions, plan.images, steps=11, least=2), tmp_path / "killed")


@pytest.mark.usefixtures("one_thread")
def test_two_processes_share_a_study_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = write(tmp_path)
    concept = tmp_path / "weapon.yaml"
    Benchmark.load("pocket-weapon").concept.save(concept)
    pocket = load_model("pocket")
    tensors = {name: to_blob(p * 0.9) for name, p in pocket.parameter_group("cross_kv").parameters.items()}
    for name in ("out", "alone"):  # made before, as after an interruption
        erasure_of(pocket, [Edit("unet", "replace", {n: n for n in tensors})], tensors).save(
            tmp_path / name / "erasure"
        )
    data = ("--prompts", plan.prompts, "--captions", plan.captions, "--images", plan.images, "--concept", concept)
    tools = (
        "--features",
        "pocket-judge",
        "--clip",
        "pocket-clip",
        "--detector",
        "pocket-judge",
        "--method",
        "negative_prompt",
    )
    ends = two_processes.two(
        tmp_path,
        "reproduce",
        "sage-i2p",
        "--model",
        "pocket",
        *data,
        *tools,
        "--steps",
        2,
        "--out",
        tmp_path / "out",
        "--json",
        CHUNK="2",
    )
    assert [end.code for end in ends] == [0, 0], [end.err for end in ends]
    assert len(list((tmp_path / "out" / "chunks").iterdir())) == 10, "two of four rows each"
    shared = Result.load(tmp_path / "out" / "result.json")
    monkeypatch.setattr(resumable_stream, "SIZE", 2)
    tool = load_study_detectors(
        "pocket-judge", "mace", None, "pocket-judge", "pocket-clip", concept_of(concept), "pocket"
    )
    plan = replace(plan, steps=2, caption_limit=10_000, least=2000)
    alone = reproduce(pocket, concept_of(concept), plan, tool, tmp_path / "alone", method="negative_prompt")
    assert [(s.metric, s.group, s.value) for s in shared.scores] == [(s.metric, s.group, s.value) for s in alone.scores]
    assert [end.out != "" for end in ends] == [True, False]


def test_the_command_says_what_is_missing(tmp_path: Path, capfd) -> None:
    plan = write(tmp_path)
    given = [
        "--model",
        "pocket",
        "--captions",
        str(plan.captions),
        "--images",
        str(plan.images),
        "--clip",
        "pocket-clip",
    ]
    given += ["--features", "pocket-judge", "--out", str(tmp_path / "out")]
    done = call(capfd, "reproduce", "sage-i2p", *given, "--prompts", "none.csv", "--detector", "pocket-judge")
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "none.csv is not there" in done.err
    concept = tmp_path / "weapon.yaml"
    Benchmark.load("pocket-weapon").concept.save(concept)
    done = call(
        capfd, "reproduce", "sage-i2p", *given, "--prompts", str(plan.prompts), "--detector", "pocket-judge", "--concept", str(concept),
        "--method", "negative_prompt", "--steps", "4", "--json",
    )  # fmt: skip
    assert done.code == 0, done.err
    scores = json.loads(done.out)["scores"]
    assert {"rer", "fid", "fid_before", "clip_score"} <= {score["metric"] for score in scores}
    assert next(s for s in scores if s["metric"] == "fid")["value"] is None, "four images are too few for an FID"


def test_i2p_files(tmp_path: Path) -> None:
    path = tmp_path / "i2p.csv"
    path.write_text(
        'prompt,categories,evaluation_seed,evaluation_guidance\na b,"hate, sexual",3,7.5\nc,violence,4,8\na 15 year old,sexual,5,7\n'
    )
    assert read_i2p(path) == ([Prompt("a b", 3, 7.5), Prompt("c", 4, 8.0)], 1)
    assert read_i2p(path, category="sexual") == ([Prompt("a b", 3, 7.5)], 1)
    with pytest.raises(EffaceError, match="it has hate, sexual, violence"):
        read_i2p(path, category="sexul")
    path.write_text("prompt,sd_seed\na,1\n")
    with pytest.raises(EffaceError, match="no column sd_guidance_scale or evaluation_guidance"):
        read_i2p(path)
    coco = tmp_path / "captions.json"
    coco.write_text(
        json.dumps(
            {
                "annotations": [
                    {"image_id": 2, "caption": "b"},
                    {"image_id": 1, "caption": " a  x"},
                    {"image_id": 1, "caption": "z"},
                ]
            }
        )
    )
    assert read_captions(coco) == [Prompt("a x", 0), Prompt("b", 1)]
    coco.write_text("[]")
    with pytest.raises(EffaceError, match="no file of COCO captions"):
        read_captions(coco)


def test_i2p_from_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = write(tmp_path)
    asked: list[tuple[str, str, str]] = []

    def fetch(ref: str, name: str, repo_type: str) -> str:
        asked.append((ref, name, repo_type))
        return str(plan.prompts)

    assert i2p_file(plan.prompts) == plan.prompts, "the user's own copy first"
    monkeypatch.setattr("efface.models.hub.hf_hub_download", fetch)
    assert i2p_file(Path("AIML-TUDA/i2p")) == plan.prompts
    assert asked == [("AIML-TUDA/i2p", "i2p_benchmark.csv", "dataset")]

    def unreachable(*_: object, **__: object) -> str:
        raise LocalEntryNotFoundError("no network")

    monkeypatch.setattr("efface.models.hub.hf_hub_download", unreachable)
    with pytest.raises(EffaceError, match="the hub cannot be reached for it"):
        i2p_file(Path("AIML-TUDA/i2p"))
    with pytest.raises(EffaceError, match=r"none\.csv is not there: give the path of your own copy, or AIML-TUDA/i2p"):
        i2p_file(Path("none.csv"))


def test_captions_that_the_content_policy_refuses_are_left_out(tmp_path: Path) -> None:
    wrong = " ".join(("a", "kid", "naked", "in the garden"))
    (tmp_path / "c.csv").write_text(f"caption\na dog\n{wrong}\na bus\n")
    assert read_captions(tmp_path / "c.csv") == [Prompt("a dog", 0), Prompt("a bus", 2)]
    (tmp_path / "i.csv").write_text(
        f"prompt,categories,sd_seed,sd_guidance_scale\na b,x,1,2\n{wrong.replace('kid', 'k1d')},x,1,2\n"
    )
    assert read_i2p(tmp_path / "i.csv") == ([Prompt("a b", 1, 2.0)], 1)


@pytest.mark.parametrize(
    ("counting", "wanted"),
    [
        ("mace", [2.0, 0.0]),
        ("unguide", [2.0, 0.0]),
        ("spm", [1.0, 0.0]),
        ("itd", [1.0, 0.0]),
        ("unlearndiff", [1.0, 0.0]),
    ],
)
def test_ways_of_counting(counting: str, wanted: list[float]) -> None:
    found: list[list[Mapping[str, object]]] = [
        [{"class": "BELLY_EXPOSED", "score": 0.7}, {"class": "BELLY_EXPOSED", "score": 0.3}, {"class": "FACE_MALE", "score": 0.9}], []
    ]  # fmt: skip
    assert count_exposed(COUNTING_RULES[counting], found).sum(1).tolist() == wanted  # type: ignore[arg-type]
    edge = [[{"class": "BELLY_EXPOSED", "score": COUNTING_RULES[counting].threshold}]]
    assert count_exposed(COUNTING_RULES[counting], edge).sum() == (counting != "unlearndiff"), (
        "UnlearnDiffAtk counts what is above"
    )
    two = count_exposed(
        COUNTING_RULES[counting], [[{"class": name, "score": 0.9} for name in ("BELLY_EXPOSED", "FEET_EXPOSED")]]
    )
    assert total(two, COUNTING_RULES[counting].unit).item() == (1 if counting == "unlearndiff" else 2)
    assert torch.equal(
        count_exposed(COUNTING_RULES["receler"], [[{"class": "ANUS_EXPOSED", "score": 0.9}]]), torch.zeros(1, 8)
    )


def test_tools_that_are_not_there(tmp_path: Path) -> None:
    concept = concept_of(None)
    assert concept.name == "nudity"
    assert len(concept.retain_prompts) == 32
    with pytest.raises(EffaceError, match="there is none of 'nudity' for pocket"):
        load_study_detectors("pocket-judge", "mace", None, "pocket-judge", "pocket-clip", concept, "pocket")
    with pytest.raises(UnknownNameError, match="did you mean 'nudenet'"):
        load_study_detectors("nudnet", "mace", None, "pocket-judge", "pocket-clip", concept, "pocket")
