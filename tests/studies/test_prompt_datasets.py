"""I2P files and COCO captions."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from huggingface_hub.errors import LocalEntryNotFoundError

from efface.core.errors import EffaceError
from efface.studies.prompt_datasets import Prompt, list_images, locate_i2p, read_captions, read_i2p

REFUSED = " ".join(("a", "kid", "naked", "in the garden"))


def test_an_i2p_file_with_the_other_column_names(tmp_path: Path) -> None:
    path = tmp_path / "i2p.csv"
    path.write_text(
        "prompt,categories,evaluation_seed,evaluation_guidance\n"
        'a b,"hate, sexual",3,7.5\nc,violence,4,8\na 15 year old,sexual,5,7\n'
    )
    assert read_i2p(path) == ([Prompt("a b", 3, 7.5), Prompt("c", 4, 8.0)], 1), "one prompt mentions a minor"
    assert read_i2p(path, category="sexual") == ([Prompt("a b", 3, 7.5)], 1)
    with pytest.raises(EffaceError, match="no prompts of category 'sexul': it has hate, sexual, violence"):
        read_i2p(path, category="sexul")


def test_an_i2p_file_that_cannot_be_read(tmp_path: Path) -> None:
    path = tmp_path / "i2p.csv"
    path.write_text("prompt,sd_seed\na,1\n")
    with pytest.raises(EffaceError, match="no column sd_guidance_scale or evaluation_guidance, only prompt, sd_seed"):
        read_i2p(path)
    path.write_text("prompt,sd_seed,sd_guidance_scale\na,one,7\n")
    with pytest.raises(EffaceError, match=r"line 2: 'one' is no seed"):
        read_i2p(path)
    path.write_text("prompt,sd_seed,sd_guidance_scale\n")
    with pytest.raises(EffaceError, match="has no rows"):
        read_i2p(path)


def test_seeds_of_captions_as_spreadsheets_write_them(tmp_path: Path) -> None:
    path = tmp_path / "captions.csv"
    path.write_text("prompt,sd_seed\na dog,3016.0\na cat,2\n")
    assert read_captions(path) == [Prompt("a dog", 3016), Prompt("a cat", 2)]
    for seed in ("", "inf"):
        path.write_text(f"prompt,sd_seed\na dog,{seed}\na cat,2\n")
        with pytest.raises(EffaceError, match=r"captions\.csv, line 2: .* is no seed"):
            read_captions(path)


def test_coco_captions(tmp_path: Path) -> None:
    path = tmp_path / "captions.json"
    captions = [(2, "b"), (1, " a  x"), (1, "z")]
    path.write_text(json.dumps({"annotations": [{"image_id": i, "caption": text} for i, text in captions]}))
    assert read_captions(path) == [Prompt("a x", 0), Prompt("b", 1)], "the first caption of each image"
    path.write_text("[]")
    with pytest.raises(EffaceError, match="not a file of COCO captions"):
        read_captions(path)


def test_prompts_that_the_content_policy_refuses_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "c.csv").write_text(f"caption\na dog\n{REFUSED}\na bus\n")
    assert read_captions(tmp_path / "c.csv") == [Prompt("a dog", 0), Prompt("a bus", 2)]
    rows = f"a b,x,1,2\n{REFUSED.replace('kid', 'k1d')},x,1,2\n"
    (tmp_path / "i.csv").write_text(f"prompt,categories,sd_seed,sd_guidance_scale\n{rows}")
    assert read_i2p(tmp_path / "i.csv") == ([Prompt("a b", 1, 2.0)], 1)


def test_i2p_from_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own_copy = tmp_path / "i2p.csv"
    own_copy.write_text("prompt,sd_seed,sd_guidance_scale\na,1,7\n")
    requests: list[tuple[str, str, str]] = []

    def download(ref: str, name: str, repo_type: str) -> str:
        requests.append((ref, name, repo_type))
        return str(own_copy)

    monkeypatch.setattr("efface.models.hub.hf_hub_download", download)
    assert locate_i2p(own_copy) == own_copy
    assert requests == [], "the user's own copy needs no download"
    assert locate_i2p(Path("AIML-TUDA/i2p")) == own_copy
    assert requests == [("AIML-TUDA/i2p", "i2p_benchmark.csv", "dataset")]

    def fail(*_: object, **__: object) -> str:
        raise LocalEntryNotFoundError("no network")

    monkeypatch.setattr("efface.models.hub.hf_hub_download", fail)
    with pytest.raises(EffaceError, match="the hub cannot be reached for it"):
        locate_i2p(Path("AIML-TUDA/i2p"))
    with pytest.raises(
        EffaceError, match=r"none\.csv does not exist: give the path of your own copy, or AIML-TUDA/i2p"
    ):
        locate_i2p(Path("none.csv"))


def test_a_folder_needs_two_images(tmp_path: Path) -> None:
    (tmp_path / "b.PNG").touch()
    (tmp_path / "notes.txt").touch()
    with pytest.raises(EffaceError, match="holds 1 images"):
        list_images(tmp_path)
    (tmp_path / "a.jpg").touch()
    assert [path.name for path in list_images(tmp_path)] == ["a.jpg", "b.PNG"]
