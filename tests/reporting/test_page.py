"""The HTML page: one file that loads nothing else, complete, and safe for any prompt."""

from __future__ import annotations

import base64
import hashlib
import re
import subprocess
import sys
from pathlib import Path

from artifact_folder import EVALUATION, HOSTILE, evaluate, result
from helpers.html_page import Page, page_of

from efface.reporting.page import write_report


def test_page_is_one_file_that_loads_nothing(artifact: Path) -> None:
    path = write_report(artifact)
    html = path.read_text()
    page = Page(html)
    assert path == artifact / "evidence" / "report.html"
    assert page.wrong == []
    scripts = re.findall(r"<script>(.*?)</script>", html, re.S)
    assert len(scripts) == len(page.all("script")) == 1
    assert not re.search(r"https?:|import|fetch|innerHTML", scripts[0])
    assert [attrs["href"] for attrs in page.all("link")] == ["data:,"]
    urls = [
        attrs[key]
        for _, attrs in page.tags
        for key in ("src", "href", "data", "action", "poster", "srcset")
        if key in attrs
    ]
    assert urls
    assert all(url.startswith(("data:", "#")) for url in urls)
    css = "".join(re.findall(r"<style>(.*?)</style>", html, re.S))
    assert "--paper" in css
    assert not re.search(r"url\(|@import|https?:", css)
    policy = next(
        attrs["content"] for attrs in page.all("meta") if attrs.get("http-equiv") == "Content-Security-Policy"
    )
    assert "default-src 'none'" in policy
    digest = base64.b64encode(hashlib.sha256(scripts[0].encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}';" in policy


def test_links_have_targets_and_ids_are_unique(artifact: Path) -> None:
    evaluate(artifact, "pocket-weapon-dev-10000", result({"limit": 24}))
    page = page_of(artifact)
    ids = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    assert {attrs["href"][1:] for attrs in page.all("a") + page.all("use")} <= set(ids)
    assert {attrs["aria-labelledby"] for _, attrs in page.tags if "aria-labelledby" in attrs} <= set(ids)


def test_html_in_prompts_is_escaped(artifact: Path) -> None:
    page = page_of(artifact)
    assert len(page.all("script")) == 1, "the page's own"
    assert not [attrs for _, attrs in page.tags if any(key.startswith("on") for key in attrs)]
    assert HOSTILE in page.text
    assert any(HOSTILE in attrs["alt"] for attrs in page.all("img"))


def test_half_a_surrogate_pair_is_replaced(artifact: Path) -> None:
    rows = artifact / "evidence" / EVALUATION / "images.json"
    rows.write_text(rows.read_text().replace("a photo of near", "a photo \\ud800 of near"))
    assert "a photo ? of near" in page_of(artifact).text


def test_every_score_has_interval_n_and_detector(artifact: Path) -> None:
    text = page_of(artifact).text
    assert "RER 0.983 [0.941, 0.995] 120 met: at least 0.8 pocket-judge@1 (threshold 0.41)" in text
    assert "KID 0.0012 [0.0004, 0.0021] 240 pocket-judge@1" in text
    assert "FID N/A not computed: n is below 2048 120" in text
    assert "hammer n = 24 -0.60 [-0.70, -0.40]" in text
    assert "ab" * 6 in text
    assert "3-5, 9 (4)" in text
    assert "ddim, 20 steps, guidance scale 3" in text


def test_every_group_shows_both_images_and_detections(artifact: Path) -> None:
    page = page_of(artifact)
    for title in ("Name", "Domain", "Near", "Other", "Attack: synonyms"):
        assert re.search(rf"{title} (Prompts|Near|Unrelated)", page.text), title
    images = [base64.b64decode(attrs["src"].partition("base64,")[2]) for attrs in page.all("img")]
    folder = artifact / "evidence" / EVALUATION / "images"
    order = [f"{i:03}-{when}.png" for i in range(4) for when in ("before", "after")] + ["004-after.png"]
    assert images == [(folder / name).read_bytes() for name in order]
    assert page.all("img")[1]["alt"] == "after: a photo of name, seed 100; the detector sees tree\u00a0· snow"
    assert all(attrs["class"] == "pixelated" for attrs in page.all("img"))
    for word in (
        "erased a photo of name",
        "concept detected a photo of domain",
        "retained a photo of near",
        "lost a photo of other",
    ):
        assert word in page.text


def test_missing_evidence_files_are_allowed(artifact: Path) -> None:
    for name in ("interference.json", "images.json"):
        (artifact / "evidence" / EVALUATION / name).unlink()
    page = page_of(artifact)
    assert page.wrong == []
    assert "No images were saved" in page.text
    assert "Interference" not in page.text


def test_missing_image_is_reported(artifact: Path) -> None:
    images = artifact / "evidence" / EVALUATION / "images"
    (images / "000-after.png").unlink()
    (images / "001-after.png").write_bytes(b"no image")
    page = page_of(artifact)
    assert "2 images cannot be read" in page.text
    assert len(page.all("img")) == 7


def test_attacks_list_their_prompts(artifact: Path) -> None:
    text = page_of(artifact).text
    assert "30 prompts; budget: 40 steps per prompt, 12.5 s." in text
    assert "the first 20 of 30" in text
    assert "try-19" in text
    assert "try-20" not in text


def test_page_describes_the_erasure_and_the_commands(artifact: Path) -> None:
    page = page_of(artifact)
    for words in (
        "565 MiB",
        "18.4 s",
        "learning rate 0.0002",
        "gun",
        "a photo of a wrench",
        "guidance 0 from 0.5 scale 2.5",
        "seed 7",
    ):
        assert words in page.text
    command = "efface erase weapon.yaml --model pocket --method esd --preset paper --seed 7 --out 'weapon esd'"
    assert f"{command} \\ --set learning_rate=0.0002" in page.text
    assert "efface evaluate 'weapon esd' --benchmark pocket-weapon --split test --seed 20000" in page.text
    assert "efface attack 'weapon esd' --attack synonyms \\ --set top=3" in page.text


def test_words_that_the_erasure_takes_along_are_listed(artifact: Path) -> None:
    text = page_of(artifact).text
    assert "Erased with weapon , because the model's images of it show them: dagger, bow." in text
    assert "fork 0.061 tool 0.040" in text


def test_report_imports_no_torch(artifact: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from efface.reporting.page import write_report; "
        "write_report(*map(Path, sys.argv[1:]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", f"{code}; assert 'torch' not in sys.modules", str(artifact), str(tmp_path / "r.html")]
    )
    assert done.returncode == 0
    assert (tmp_path / "r.html").is_file()
