"""The commands of the tutorials run as written, on tiny models or on pocket with few images and steps."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import pytest
from helpers.classifiers import saved_clip
from helpers.cli import call, tiny_folder
from helpers.clip_vocabulary import clip_folder, stable_diffusion_folder

TUTORIALS = Path(__file__).parents[2] / "docs/tutorials"
FEWER = {"--limit": "2", "-n": "1"}
"""Values of options in place of the page's."""
QUICK_ELIDE = ("--set", "steps=2", "--set", "warmup_steps=1", "--set", "domain_images=8")
PAGES_ON_STABLE_DIFFUSION = {
    "artist_style": "van-gogh-erased/evidence/report.html",
    "hundred_concepts": "artists-lora/pytorch_lora_weights.safetensors",
    "audit_checkpoint": "audit/evidence/report.html",
}
"""The file that each page ends with."""


def commands_of(name: str) -> list[list[str]]:
    """The words of every command in a page's shell blocks, with fewer images."""
    blocks = re.findall(r"```sh\n(.*?)```", (TUTORIALS / f"{name}.md").read_text(), re.S)
    commands = [shlex.split(line, comments=True) for line in "".join(blocks).splitlines()]
    previous = [["", *words[:-1]] for words in commands]
    rows = [list(zip(*pair, strict=True)) for pair in zip(previous, commands, strict=True) if pair[1]]
    return [[FEWER.get(before, word) for before, word in row] for row in rows]


def follow(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    """Runs every command of a page in the working directory."""
    for program, *words in commands_of(name):
        assert program == "efface"
        quick = ("--no-quick-evaluation",) if words[0] == "erase" else ()
        output = call(capfd, *words, *quick, *(QUICK_ELIDE if "elide" in words else ()))
        assert output.code == 0, (words, output)
        if words[:2] == ["benchmarks", "new"]:
            _shorten(Path(words[words.index("--out") + 1]))


@pytest.mark.slow
def test_a_newcomer_gets_from_a_folder_to_a_report_and_an_export(capfd, tmp_path, monkeypatch):
    tiny_folder(tmp_path / "sd15")
    (tmp_path / "clip-vit-large-patch14").mkdir()
    saved_clip(tmp_path / "clip-vit-large-patch14")
    monkeypatch.chdir(tmp_path)
    follow("own_concept", capfd)
    report = (tmp_path / "dog-erased/evidence/report.html").read_text()
    assert all(f'id="{section}"' in report for section in ("scores", "attacks"))
    assert (tmp_path / "sd15-without-dog/model_index.json").is_file()


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES_ON_STABLE_DIFFUSION)
def test_a_page_is_followed_on_a_folder_in_the_shape_of_stable_diffusion(capfd, tmp_path, monkeypatch, page):
    stable_diffusion_folder(tmp_path / "sd15")
    clip_folder(tmp_path / "clip-vit-large-patch14")
    for name in ("artists.txt", "keep.txt"):
        shutil.copy(TUTORIALS / name, tmp_path)
    monkeypatch.chdir(tmp_path)
    follow(page, capfd)
    assert (tmp_path / PAGES_ON_STABLE_DIFFUSION[page]).is_file()


@pytest.mark.slow
def test_the_page_on_domains_is_followed_on_pocket(capfd, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    follow("domain", capfd)
    assert (tmp_path / "weapon-report.html").is_file()


@pytest.mark.slow
def test_the_page_on_a_method_of_ones_own_is_followed_on_pocket(capfd, tmp_path, monkeypatch):
    package = tmp_path / "site"
    shutil.copytree(TUTORIALS / "own_method", package)
    metadata = package / "efface_direction-0.1.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: efface-direction\nVersion: 0.1\n")
    (metadata / "entry_points.txt").write_text("[efface.methods]\ndirection = direction:direction\n")
    monkeypatch.syspath_prepend(package)
    monkeypatch.chdir(tmp_path)
    follow("own_method", capfd)
    report = (tmp_path / "mosaic-erased/evidence/report.html").read_text()
    assert all(f'id="{section}"' in report for section in ("scores", "attacks"))


def _shorten(benchmark: Path) -> None:
    text, count = re.subn(r"num_inference_steps: \d+", "num_inference_steps: 2", benchmark.read_text())
    assert count
    benchmark.write_text(text)
