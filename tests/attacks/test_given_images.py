"""Attacks that learn or start from a user's images of the concept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.edits import trained
from helpers.scenes import save_scenes
from helpers.tiny import erasure_of, tiny_model
from PIL import Image

from efface import api
from efface.attacks.inverted_latents import Config
from efface.benchmarks.benchmark import Benchmark
from efface.benchmarks.image_folder_check import check_concept_images
from efface.core.attack_set import AttackSet, AttackTask
from efface.core.concept import Concept
from efface.core.errors import EffaceError
from efface.core.image_files import images_hash
from efface.core.registry import ATTACKS
from efface.execution import run_attack
from efface.models.stable_diffusion import StableDiffusionModel
from efface.ops.adversarial.attack_context import AttackContext
from efface.ops.adversarial.attack_images import TaskImages, training_images

SMALL: dict[str, dict[str, Any]] = {
    "concept_inversion": {"steps": 2, "num_images": 2, "num_templates": 1},
    "denoiser_relearning": {"steps": 2, "num_images": 2, "num_templates": 1, "rank": 1},
    "inverted_latents": {"iterations": 1},
    "ledits": {"edits": ("a hat",)},
    "masactrl": {"edits": ("{} x",), "first_layer": 1, "first_step": 1},
}
CONCEPT = Concept("gun")
TASKS = (AttackTask("a gun", "a {}", 1), AttackTask("my gun", "my {}", 2), AttackTask("x gun", "x {}", 3))


def save_colours(folder: Path, size: int) -> Path:
    for name, colour in (("a", (255, 0, 0)), ("b", (0, 0, 255))):
        Image.new("RGB", (size, size), colour).save(folder / f"{name}.png")
    return folder


@pytest.mark.parametrize("name", SMALL)
def test_the_attack_reads_the_images_of_the_folder(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = "attacks.concept_inversion" if name == "concept_inversion" else "ops.adversarial.start_latents"
    monkeypatch.setattr(f"efface.{module}.template_library", lambda kind: ("a {} x",))
    model = tiny_model()
    erasure = erasure_of(model, *trained(model, "text_mlp", 0.1).replace_edits())

    def attack(folder: str) -> tuple[AttackSet, object]:
        settings = {**SMALL[name], "num_inference_steps": 2, "image_folder": folder}
        found = run_attack(model, erasure, CONCEPT, TASKS, ATTACKS.get(name), overrides=settings, preset="paper")
        return found, (found.prompts, dict(found.tensors))

    folder = str(save_colours(tmp_path, model.image_size))
    given, effect = attack(folder)
    assert given.config["image_folder"] == folder
    assert attack(folder)[1] == effect
    assert attack("")[1] != effect


def test_images_go_to_tasks_in_turn_and_to_all_prompts(tmp_path: Path) -> None:
    model, run = tiny_model(), AttackContext(seed=0)
    config = Config(image_folder=str(save_colours(tmp_path, model.image_size)))
    images = TaskImages(model, CONCEPT, config, run)
    first, second, third = images.of(TASKS, range(3))
    assert torch.equal(first, third)
    assert not torch.equal(first, second)
    assert torch.equal(images.of(TASKS[1:2], [1])[0], second)
    latents = training_images(model, CONCEPT, ["a gun", "x gun"], 9, config, run, "images")
    assert torch.equal(latents.x0, torch.stack([first, second, first, second]))
    assert latents.prompt_index.tolist() == [0, 0, 1, 1]
    assert len(training_images(model, CONCEPT, ["a gun"], 1, config, run, "images").x0) == 1


def test_images_without_the_concept_are_refused(pocket: StableDiffusionModel, tmp_path: Path) -> None:
    benchmark = Benchmark.load("pocket-weapon")
    weapons, cats = save_scenes(tmp_path / "weapons", "pistol", 2), save_scenes(tmp_path / "cats", "cat", 3)
    check_concept_images(benchmark, pocket, weapons)
    line = r"cats shows weapon in 0 of 3 images, says pocket-judge: keep those that show it, or name another --detector"
    with pytest.raises(EffaceError, match=line):
        check_concept_images(benchmark, pocket, cats)
    save_scenes(weapons, "cat", 2)
    check_concept_images(benchmark, pocket, weapons)
    with pytest.raises(EffaceError, match="in 2 of 5 images"):
        check_concept_images(benchmark, pocket, save_scenes(weapons, "cat", 3))


@pytest.mark.slow
def test_an_attack_with_images_states_their_content(pocket: StableDiffusionModel, tmp_path: Path) -> None:
    api.erase("weapon", out=tmp_path / "e", model=pocket, method="uce", quick_evaluation=False)
    weapons, cats = save_scenes(tmp_path / "weapons", "pistol", 2), save_scenes(tmp_path / "cats", "cat", 2)

    def attack(folder: Path) -> AttackSet:
        settings = {"image_folder": str(folder), "steps": 2}
        return api.attack(tmp_path / "e", "concept_inversion", model=pocket, config=settings, limit=2)

    found = attack(weapons)
    assert found.deviations["image_folder"] == images_hash(weapons)[:12]
    with pytest.raises(EffaceError, match="in 0 of 2 images"):
        attack(cats)
    assert [path.name for path in (tmp_path / "e" / "evidence" / "attacks").iterdir()] == [found.folder.name]  # type: ignore[union-attr]
