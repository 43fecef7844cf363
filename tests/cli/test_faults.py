"""Whatever goes wrong is one line that names the cure, and nothing is half-written or lost."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
import torch
from helpers.cli import QUICK, Said, call, check_refused, content, tiny_folder

from efface.core import tensors
from efface.core.concept import Concept
from efface.core.erasure import Erasure
from efface.core.errors import BaseModelMismatchError, CorruptArtifactError
from efface.models.loading import load_model
from efface.ops.editing.apply import applied, apply
from efface.ops.training.run import Run


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    """As in the processes below, so that bytes can be compared."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("EFFACE_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> Path:
    return tiny_folder(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def made(tmp_path_factory, tiny) -> Path:
    """An erasure that tests copy and do not change."""
    from efface import api

    config = {"steps": 6, "runs": 1, "sampler_steps": 2, "lr": 0.1}
    out = tmp_path_factory.mktemp("made") / "e"
    api.erase(Concept("gun", retain_prompts=("a cat",)), out=out, model=tiny, config=config)
    return out


def damage(path: Path, how: str) -> None:
    data = bytearray(path.read_bytes())
    if how == "bit":
        data[len(data) // 2] ^= 1
    path.write_bytes(data[:-1] if how == "cut" else data)


# ---- before a model is needed: one process runs all of these, and says after each what it has imported

FILES = {
    "gun.txt": b"a photo of a cat\na photo of a Gun.\n",
    "latin.txt": b"a caf\xe9\n",
    "bad.yaml": b"name: gun\nsynonyms: [\n",
    "field.yaml": b"nam: gun\n",
    "list.yaml": b"- gun\n",
    "code.yaml": b"name: !!python/object/apply:os.getcwd []\n",
    "empty.yaml": b"kind: object\n",
    "home/thesis.txt": b"precious",
}
HEAVY = ("torch", "diffusers", "transformers")
ERASE = ("erase", "gun", "--out", "x")
REFUSED: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "method": ((*ERASE, "--method", "esdd"), ("unknown method 'esdd'", "did you mean 'esd'")),
    "attack": (("attack", "e", "--attack", "synonym"), ("unknown attack", "did you mean 'synonyms'")),
    "benchmark": (
        ("evaluate", "e", "--benchmark", "pocket-wepon"),
        ("unknown benchmark", "did you mean 'pocket-weapon'"),
    ),
    "benchmark of an attack": (("attack", "e", "--benchmark", "pocket-wepon"), ("did you mean 'pocket-weapon'",)),
    "benchmark file": (("evaluate", "e", "--benchmark", "none.yaml"), ("cannot read none.yaml",)),
    "benchmark field": (
        ("evaluate", "e", "--benchmark", "field.yaml"),
        ("unknown benchmark field 'nam'", "did you mean 'name'"),
    ),
    "no benchmark fits": (("evaluate", "e"), ("no benchmark is for 'gun'", "pocket-weapon")),
    "part": (
        ("evaluate", "e", "--benchmark", "pocket-weapon", "--part", "tset"),
        ("unknown part", "did you mean 'test'"),
    ),
    "part of an attack": (
        ("attack", "e", "--benchmark", "pocket-weapon", "--part", "dav"),
        ("unknown part", "did you mean 'dev'"),
    ),
    "model": ((*ERASE, "--model", "poket"), ("unknown model", "did you mean 'pocket'")),
    "model that is no pipeline": ((*ERASE, "--model", "home"), ("no model_index.json",)),
    "model to evaluate": (
        ("evaluate", "e", "--benchmark", "pocket-weapon", "--model", "poket"),
        ("did you mean 'pocket'",),
    ),
    "model to attack": (
        ("attack", "e", "--benchmark", "pocket-weapon", "--model", "poket"),
        ("did you mean 'pocket'",),
    ),
    "setting": ((*ERASE, "--set", "steps"), ("--set 'steps'", "name=value")),
    "setting of an attack": (("attack", "e", "--set", "phrases"), ("--set 'phrases'", "name=value")),
    "no concept": (("erase", "--out", "x"), ("no concept given", "'weapon'")),
    "empty concept": (("erase", "", "--out", "x"), ("name is empty",)),
    "blank concept": (("erase", "gun", "--concept", "  ", "--out", "x"), ("name is empty",)),
    "two equal concepts": (("erase", "gun", "--concept", "Gun ", "--out", "x"), ("given twice", "leave one out")),
    "anchor": ((*ERASE, "--anchor", "GUN"), ("the concept itself",)),
    "retain set with the concept": (
        (*ERASE, "--retain-file", "gun.txt"),
        ("'a photo of a Gun.'", "take it out of the retain set"),
    ),
    "retain set with a synonym": (
        ("erase", "pistol", "--synonym", "gun", "--out", "x", "--retain-file", "gun.txt"),
        ("contains 'gun'",),
    ),
    "retain set of another concept": (
        ("erase", "cat", "gun", "--out", "x", "--retain-file", "gun.txt"),
        ("retain prompt",),
    ),
    "no retain file": ((*ERASE, "--retain-file", "none.txt"), ("cannot read none.txt",)),
    "retain folder": ((*ERASE, "--retain-file", "home"), ("cannot read home",)),
    "retain file that is no text": ((*ERASE, "--retain-file", "latin.txt"), ("cannot read latin.txt", "UTF-8")),
    "YAML": (("erase", "bad.yaml", "--out", "x"), ("bad.yaml is not valid YAML",)),
    "YAML field": (("erase", "field.yaml", "--out", "x"), ("unknown concept field 'nam'", "did you mean 'name'")),
    "YAML list": (("erase", "list.yaml", "--out", "x"), ("mapping",)),
    "YAML with code": (("erase", "code.yaml", "--out", "x"), ("not valid YAML",)),
    "YAML without a name": (("erase", "empty.yaml", "--out", "x"), ("name is empty",)),
    "no YAML": (("erase", "none.yaml", "--out", "x"), ("cannot read none.yaml",)),
    "out is taken": (("erase", "gun", "--out", "e"), ("e is there already", "overwrite")),
    "out is somebody's": (("erase", "gun", "--out", "home"), ("home is there already",)),
    "out is nowhere": (("erase", "gun", "--out", "no/where"), ("does not exist", "--out")),
    "out is below a file": (("erase", "gun", "--out", "gun.txt/x"), ("does not exist",)),
    "no artifact to show": (("show", "home"), ("holds no erasure",)),
    "no artifact to verify": (("verify", "none"), ("holds no erasure",)),
    "no artifact to report": (("report", "home"), ("no erasure",)),
    "no artifact to evaluate": (("evaluate", "none"), ("no erasure", "efface erase")),
    "no artifact to attack": (("attack", "gun.txt"), ("no erasure", "efface erase")),
    "flipped bit, evaluate": (
        ("evaluate", "bit", "--benchmark", "pocket-weapon"),
        ("bit is not as it was written", "weights.safetensors"),
    ),
    "flipped bit, attack": (
        ("attack", "bit", "--benchmark", "pocket-weapon"),
        ("bit is not as it was written", "weights.safetensors"),
    ),
    "cut short, evaluate": (("evaluate", "cut", "--benchmark", "pocket-weapon"), ("weights.safetensors", "truncated")),
    "cut short, attack": (("attack", "cut", "--benchmark", "pocket-weapon"), ("weights.safetensors", "truncated")),
    "cut short, report": (("report", "cut"), ("cut",)),
    "another model": (("apply", "e", "--to", "poket"), ("unknown model", "did you mean 'pocket'")),
    "no artifact to apply": (("apply", "home", "--to", "pocket"), ("no erasure",)),
    "flipped bit, apply": (("apply", "bit", "--to", "pocket", "--out", "y"), ("bit is not as it was written",)),
    "method to ablate": (("ablate", "sagee"), ("unknown method", "did you mean 'sage'")),
    "benchmark of an ablation": (
        ("ablate", "sage", "--benchmark", "pocket-instrumnt"),
        ("did you mean 'pocket-instrument'",),
    ),
    "replay": (("attack", "e", "--replay", "home"), ("home is no attack set",)),
    "image": (("sample", "a cat", "--out", "cat.jpg"), (".png",)),
}
CHEAP: dict[str, tuple[str, ...]] = {
    "help": ("--help",),
    "version": ("--version",),
    **{
        f"{verb} --help": (verb, "--help")
        for verb in ("erase", "attack", "evaluate", "report", "sample", "show", "verify", "demo")
    },
    **{f"{verb} --json": (verb, "--json") for verb in ("methods", "attacks", "benchmarks", "models")},
    "show --json": ("show", "e", "--json"),
    "verify --json": ("verify", "e", "--json"),
}
ONE_PROCESS = """
import contextlib, io, json, sys
import efface
seen = {"import": [m for m in %r if m in sys.modules]}
from efface.cli import main
for name, args in json.load(sys.stdin).items():
    sys.argv = ["efface", *args]
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as err:
        try:
            code = main() or 0
        except SystemExit as end:
            code = end.code or 0
        except BaseException as error:
            code = "Traceback: " + repr(error)
    heavy = [m for m in %r if m in sys.modules]
    seen[name] = [code, out.getvalue(), err.getvalue(), heavy]
print(json.dumps(seen))
"""


@pytest.fixture(scope="module")
def light(tmp_path_factory, made):
    """Every command of `REFUSED` and `CHEAP`, what each said and imported, and what was in the folder before and after."""
    desk = tmp_path_factory.mktemp("desk")
    for name, data in FILES.items():
        (desk / name).parent.mkdir(exist_ok=True)
        (desk / name).write_bytes(data)
    for name in ("e", "bit", "cut"):
        shutil.copytree(made, desk / name)
        damage(desk / name / "weights.safetensors", name)
    before = content(desk)
    commands = json.dumps({**{name: args for name, (args, _) in REFUSED.items()}, **CHEAP})
    process = [sys.executable, "-c", ONE_PROCESS % (HEAVY, HEAVY)]
    done = subprocess.run(process, input=commands, capture_output=True, text=True, cwd=desk, check=True, timeout=300)
    return json.loads(done.stdout), before, content(desk)


@pytest.mark.parametrize("name", REFUSED)
def test_refused_in_one_line_before_a_model_is_needed(light, name):
    code, out, err, heavy = light[0][name]
    check_refused(Said(code, out, err), *REFUSED[name][1])
    assert heavy == []
    if REFUSED[name][0][0] != "verify":
        assert out == ""


@pytest.mark.parametrize("name", CHEAP)
def test_listings_and_help_import_nothing_heavy(light, name):
    code, out, err, heavy = light[0][name]
    assert (code, err, heavy) == (0, "", [])
    assert out.strip()


def test_import_is_cheap_and_no_error_leaves_anything(light):
    seen, before, after = light
    assert seen["import"] == []
    assert after == before


def test_words_are_whole():
    assert Concept("gun", retain_prompts=("gunpowder", "a begun day", "guns")).retain_prompts


# ---- with a model


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("--preset", "papr"), ("unknown preset 'papr'", "did you mean 'paper'")),
        (("--set", "stps=3"), ("unknown config field 'stps'", "did you mean 'steps'")),
        (("--set", "steps=1.5"), ("'steps' is a number (int)", "'1.5'")),
        (("--set", "lr=fast"), ("'lr' is a number (float)", "'fast'")),
        (("--set", "lr=nan"), ("lr is nan",)),
        (("--set", "erase_from=maybe"), ("true or false", "'maybe'")),
        (("--set", "sites=cross_al"), ("'cross_al'", "did you mean 'cross_all'")),
        (("--set", "steps=0"), ("0 steps",)),
        (("--set", "steps=-5"), ("-5 steps",)),
        (("--method", "sage"), ("at least 4 retain prompts, and there are 0", "--retain-file")),
        (("--method", "sage", "--concept", "gun " * 90), ("the context ends before 'gun gun", "use a shorter name")),
    ],
)
def test_a_configuration_that_does_not_fit(capfd, tmp_path, tiny, args, words):
    said = call(
        capfd,
        "erase",
        "gun",
        "--out",
        tmp_path / "x",
        "--model",
        tiny,
        "--set",
        "runs=1",
        "--set",
        "sampler_steps=2",
        *args,
    )
    check_refused(said, *words)
    assert said.out == ""
    assert content(tmp_path) == {}


def test_templates_are_a_file_of_sentences_with_a_slot(capfd, tmp_path, tiny):
    retain, templates = tmp_path / "retain.txt", tmp_path / "templates.txt"
    retain.write_text("a cat\na dog\na cup\na car\n")
    templates.write_text("a sketch of the woods\n")
    said = call(
        capfd, "erase", "gun", "--out", tmp_path / "x", "--model", tiny, "--method", "sage", "--retain-file", retain,
        "--templates", templates, "--set", "runs=1", "--set", "sampler_steps=2",
    )  # fmt: skip
    check_refused(said, f"{templates}: 'a sketch of the woods' has no {{}}", early=False)


def test_an_attack_that_does_not_fit(capfd, tmp_path, tiny, made):
    shutil.copytree(made, tmp_path / "e")
    before = content(tmp_path)
    for setting, word in (("phrase=a pistol", "did you mean 'phrases'"), ("phrases=,", "list of texts")):
        said = call(
            capfd,
            "attack",
            tmp_path / "e",
            "--benchmark",
            "pocket-weapon",
            "--limit",
            "1",
            "--model",
            tiny,
            "--force",
            "--set",
            setting,
        )
        check_refused(said, word)
    assert content(tmp_path) == before


@pytest.mark.parametrize("taken", ["a file", "somebody's folder"])
def test_overwrite_replaces_erasures_only(capfd, tmp_path, tiny, taken):
    out = tmp_path / "x"
    if taken == "a file":
        out.write_text("precious")
    else:
        out.mkdir()
        (out / "thesis.txt").write_text("precious")
    before = content(tmp_path)
    said = call(capfd, "erase", "gun", "--out", out, "--model", tiny, "--overwrite", *QUICK)
    check_refused(said, str(out), "choose another folder", early=False)
    assert {name: data for name, data in content(tmp_path).items() if not name.startswith(".x.run")} == before


def test_another_base_is_refused_with_its_distance(capfd, tmp_path, tiny, made):
    other = tiny_folder(tmp_path / "other", seed=1)
    shutil.copytree(made, tmp_path / "e")
    before = content(tmp_path)
    for verb in ("evaluate", "attack"):
        said = call(capfd, verb, tmp_path / "e", "--benchmark", "pocket-weapon", "--limit", "1", "--model", other)
        check_refused(said, "other is not the base of this erasure", "% from the one", "force")
        assert said.out == ""
    assert content(tmp_path) == before
    model, erasure = load_model(other), Erasure.load(made)
    with pytest.raises(BaseModelMismatchError, match=r"\d+\.\d% from"):
        apply(model, erasure)
    with applied(model, erasure, force=True) as on:
        assert on.forced
        assert all(0.5 < distance < 2 for distance in on.distances.values() if distance is not None)
        assert on.record()["transfer"] is True
    with applied(load_model(tiny), erasure) as on:
        assert not on.forced


@pytest.mark.parametrize("how", ["bit", "cut"])
@pytest.mark.parametrize("name", ["weights.safetensors", "README.md", "history.json", "erasure.json"])
def test_a_damaged_file_is_named_and_never_applied(capfd, tmp_path, tiny, made, how, name):
    shutil.copytree(made, tmp_path / "e")
    loaded, model = Erasure.load(tmp_path / "e"), load_model(tiny)
    damage(tmp_path / "e" / name, how)
    before = content(tmp_path)
    said = call(capfd, "verify", tmp_path / "e")
    check_refused(said, name)
    assert said.out.startswith(f"{name}: ")
    said = call(capfd, "verify", tmp_path / "e", "--json")
    check_refused(said, name)
    assert [row["file"] for row in json.loads(said.out)["problems"]] == [name]
    with pytest.raises(CorruptArtifactError, match=name):
        apply(model, loaded)
    with pytest.raises(CorruptArtifactError, match=name):
        Erasure.load(tmp_path / "e")
    assert content(tmp_path) == before


# ---- disks that are full, places that may not be written to


class Disk:
    """Writes that fail where a path matches ``where``, after half of the bytes, as on a disk that fills up."""

    def __init__(self, patch, where: str, code: int) -> None:
        self.where, self.code, self.failed = where, code, 0
        self.write, self.mkdir = Path.write_bytes, Path.mkdir
        patch.setattr(tensors, "open", self.opened, raising=False)
        patch.setattr(Path, "write_bytes", lambda path, data: self.half(path, data))
        if code == errno.EACCES:
            patch.setattr(Path, "mkdir", lambda path, *args, **more: self.made(path, *args, **more))

    def here(self, path) -> bool:
        return re.search(self.where, str(path)) is not None

    def fail(self):
        self.failed += 1
        raise OSError(self.code, os.strerror(self.code))

    def half(self, path, data) -> int:
        if self.here(path):
            self.write(path, data[: len(data) // 2])
            self.fail()
        return self.write(path, data)

    def made(self, path, *args, **more) -> None:
        if self.here(path) and ".tmp-" in path.name:
            self.fail()
        self.mkdir(path, *args, **more)

    def opened(self, path, mode="r"):
        return Filling(self, path, mode) if self.here(path) and "w" in mode else open(path, mode)


class Filling:
    """A file on such a disk."""

    def __init__(self, disk, path, mode) -> None:
        self.disk, self.file = disk, open(path, mode)  # noqa: SIM115

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.file.close()

    def write(self, data) -> None:
        self.file.write(bytes(data)[: len(data) // 2])
        self.disk.fail()


@contextlib.contextmanager
def disk(where: str, code: int):
    with pytest.MonkeyPatch.context() as patch:
        yield Disk(patch, where, code)


CURES = {errno.ENOSPC: "free some space", errno.EACCES: "choose a place that you may write to"}


def erase(capfd, tmp_path, tiny, *more) -> Said:
    return call(capfd, "erase", "gun", "--out", tmp_path / "e", "--model", tiny, *QUICK, *more)


@pytest.mark.parametrize(
    ("method", "code", "where"),
    [
        ("esd", errno.ENOSPC, r"/\.e\.tmp-"),
        ("negative_prompt", errno.ENOSPC, r"/\.e\.tmp-.*README\.md"),
        ("negative_prompt", errno.EACCES, r"/\.e\.tmp-"),
    ],
)
def test_saving_that_fails_keeps_what_was_there(capfd, tmp_path, tiny, made, method, code, where):
    args = (
        "erase",
        "gun",
        "--out",
        tmp_path / "e",
        "--model",
        tiny,
        "--method",
        method,
        *(QUICK if method == "esd" else ()),
    )
    with disk(where, code) as fault:
        said = call(capfd, *args)
    assert fault.failed
    check_refused(said, f"cannot write {tmp_path / 'e'}", CURES[code], early=False)
    assert ".tmp-" not in said.err
    assert not [name for name in content(tmp_path) if not name.startswith(".e.run")]
    shutil.copytree(made, tmp_path / "e")
    before = content(tmp_path / "e")
    with disk(where, code) as fault:
        said = call(capfd, *args, "--overwrite")
    assert fault.failed
    check_refused(said, CURES[code], early=False)
    assert content(tmp_path / "e") == before
    assert not [name for name in content(tmp_path) if "tmp" in name or ".old" in name]
    assert call(capfd, *args, "--overwrite", "--resume").code == 0, "with room again, the same command goes on"
    assert content(tmp_path / "e") != before
    assert not (tmp_path / ".e.run").exists()


def test_syncing_that_fails_is_no_save(capfd, tmp_path, tiny, monkeypatch):
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("efface.core.io.os.fsync", full)
    said = call(capfd, "erase", "gun", "--out", tmp_path / "e", "--model", tiny, "--method", "negative_prompt")
    check_refused(said, f"cannot write {tmp_path / 'e'}", "free some space", early=False)
    assert content(tmp_path) == {}


@pytest.mark.parametrize("code", CURES)
def test_a_first_checkpoint_that_fails_leaves_nothing(capfd, tmp_path, tiny, monkeypatch, code):
    monkeypatch.setattr("efface.execution.Run", partial(Run, checkpoint_every=2))
    with disk(r"/\.e\.run", code) as fault:
        said = erase(capfd, tmp_path, tiny)
    assert fault.failed
    check_refused(said, f"cannot write {tmp_path / '.e.run' / 'train-00000002'}", CURES[code], early=False)
    assert content(tmp_path) == {}


def test_a_later_checkpoint_that_fails_keeps_the_one_before(capfd, tmp_path, tiny, monkeypatch):
    monkeypatch.setattr("efface.execution.Run", partial(Run, checkpoint_every=2))
    whole = tmp_path / "whole"
    assert call(capfd, "erase", "gun", "--out", whole, "--model", tiny, *QUICK).code == 0
    with disk(r"train-00000004.*state\.json", errno.ENOSPC) as fault:
        said = erase(capfd, tmp_path, tiny)
    assert fault.failed
    check_refused(said, f"cannot write {tmp_path / '.e.run' / 'train-00000004'}", "free some space", early=False)
    assert [path.name for path in (tmp_path / ".e.run").iterdir() if path.is_dir()] == ["train-00000002"]
    assert not (tmp_path / "e").exists()
    assert erase(capfd, tmp_path, tiny, "--resume").code == 0
    for name in ("weights.safetensors", "history.json"):
        assert (tmp_path / "e" / name).read_bytes() == (whole / name).read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["e", "whole"]


def test_a_image_that_cannot_be_saved(capfd, tmp_path, tiny, monkeypatch):
    def full(image, path, **_: object) -> None:
        Path(path).write_bytes(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("PIL.Image.Image.save", full)
    said = call(capfd, "sample", "a cat", "-n", "1", "--steps", "1", "--model", tiny, "--out", tmp_path / "cat.png")
    check_refused(said, f"cannot write {tmp_path / 'cat.png'}", "free some space", early=False)
    assert content(tmp_path) == {}


def test_a_disk_that_is_really_full(capfd, tmp_path, tiny):
    """Twice: too small for a checkpoint, and too small for the artifact beside the checkpoint."""
    for kib in (32, 160):
        place = tmp_path / str(kib)
        place.mkdir()
        if subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={kib}k", "tmpfs", place], capture_output=True, check=False
        ).returncode:
            pytest.skip("only root may mount a disk")
        try:
            check_refused(erase(capfd, place, tiny), f"cannot write {place}", "free some space", early=False)
            assert [path.name for path in place.iterdir()] == ([] if kib == 32 else [".e.run"])
        finally:
            subprocess.run(["umount", place], check=True)


# ---- interruptions

LONG = ("--set", "steps=250", "--set", "runs=1", "--set", "sampler_steps=2", "--set", "lr=0.01")


def start(tiny: Path, out: Path, *more: str) -> subprocess.Popen[str]:
    """``efface erase`` in a process of its own."""
    command = [sys.executable, "-m", "efface", "erase", "gun", "--out", str(out), "--model", str(tiny), *LONG, *more]
    old = signal.signal(
        signal.SIGINT, signal.default_int_handler
    )  # a process that is started with Ctrl-C ignored goes on ignoring it
    try:
        env = {**os.environ, "OMP_NUM_THREADS": "1"}
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env)
    finally:
        signal.signal(signal.SIGINT, old)


def steps_done(out: Path) -> int:
    """The newest checkpoint beside an erasure that is being made."""
    return max((int(path.name[-8:]) for path in out.parent.glob(f".{out.name}.run/train-*")), default=0)


def stop_after(process: subprocess.Popen[str], out: Path, steps: int, how: int) -> tuple[str, str]:
    """Sends a signal as soon as a checkpoint after more than these steps is there; returns what was said."""
    deadline = time.monotonic() + 300
    try:
        while process.poll() is None and time.monotonic() < deadline:
            if steps_done(out) > steps:
                break
            time.sleep(0.005)
        assert process.poll() is None, f"it ended before it could be stopped: {process.communicate()}"
        process.send_signal(how)
        return process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()


def test_interrupted_and_killed_runs_resume_to_the_same_bytes(capfd, tmp_path, tiny, monkeypatch):
    """Ctrl-C, then SIGKILL while resuming, then resumed to the end, beside a run that was left alone."""
    alone, out = start(tiny, tmp_path / "alone", "--json"), tmp_path / "e"
    try:
        process = start(tiny, out)
        said, errors = stop_after(process, out, 0, signal.SIGINT)
        assert process.returncode == 130
        assert (said, errors.strip().splitlines()[-1]) == ("", "interrupted")
        assert "Traceback" not in errors
        assert not out.exists()
        first = steps_done(out)
        assert 0 < first < 250

        said = call(capfd, "erase", "gun", "--out", out, "--model", tiny, *LONG, "--seed", "1", "--resume")
        check_refused(said, "a checkpoint of another run", early=False)
        assert steps_done(out) == first

        process = start(tiny, out, "--resume")
        stop_after(process, out, first, signal.SIGKILL)
        assert process.returncode == -signal.SIGKILL
        assert not out.exists()

        starts, second = [], steps_done(out)
        monkeypatch.setattr("efface.ops.training.progress.RichProgress.start", lambda _, *row: starts.append(row))
        assert call(capfd, "erase", "gun", "--out", out, "--model", tiny, *LONG, "--resume").code == 0
        assert starts == [("train", 250, second)], "it went on where it was, not from the start"
        printed, _ = alone.communicate(timeout=300)
    finally:
        alone.kill()
        alone.wait()
    assert alone.returncode == 0
    assert json.loads(printed)["folder"] == str(tmp_path / "alone")
    for name in ("weights.safetensors", "history.json"):
        assert (out / name).read_bytes() == (tmp_path / "alone" / name).read_bytes()
    assert call(capfd, "verify", out).code == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["alone", "e"]


def test_ctrl_c_while_saving_leaves_the_old_erasure(capfd, tmp_path, tiny, made, monkeypatch):
    shutil.copytree(made, tmp_path / "e")
    before = content(tmp_path)

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("efface.core.erasure.write_manifest", stop)
    said = call(
        capfd, "erase", "gun", "--out", tmp_path / "e", "--model", tiny, "--method", "negative_prompt", "--overwrite"
    )
    assert (said.code, said.out, said.err.strip().splitlines()[-1]) == (130, "", "interrupted")
    assert content(tmp_path) == before


def test_a_prompt_that_the_content_policy_refuses_is_one_line_without_the_prompt(capfd, tmp_path, tiny):
    wrong = "an image of a " + " ".join(("nude", "child"))
    (tmp_path / "keep.txt").write_text(f"a dog\n{wrong}\n")
    (tmp_path / "c.yaml").write_text(f"name: gun\nsynonyms: [{wrong}]\n")
    out = ("--out", tmp_path / "out.png", "--model", tiny)
    for args in (
        ("sample", wrong, *out),
        ("erase", wrong, *out),
        ("erase", "gun", "--synonym", wrong, *out),
        ("erase", "gun", "--retain-file", tmp_path / "keep.txt", *out),
        ("erase", tmp_path / "c.yaml", *out),
    ):
        said = call(capfd, *args)
        check_refused(said, "refused: ", "content_policy.md")
        assert "nude" not in said.err + said.out
    assert not (tmp_path / "out.png").exists()
