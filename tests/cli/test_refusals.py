"""Commands that fail, or only print, before a model is loaded: one line with the cure, and no import of torch.

One process runs all of them, which takes seconds instead of minutes, and reports after each what it has imported.
"""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import sys

import pytest
from helpers.cli import CommandOutput, call, check_refused, content
from helpers.damage import damage

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
WEAPON = "--benchmark pocket-weapon --allow-benchmark-mismatch"
REFUSED: dict[str, tuple[str, ...]] = {
    # names
    "erase gun --out x --method esdd": ("unknown method 'esdd'", "did you mean 'esd'"),
    "ablate sagee": ("unknown method 'sagee'", "did you mean 'sage'"),
    "attack e --attack synonym": ("unknown attack 'synonym'", "did you mean 'synonyms'"),
    "evaluate e --benchmark pocket-wepon": ("unknown benchmark 'pocket-wepon'", "did you mean 'pocket-weapon'"),
    "attack e --benchmark pocket-wepon": ("unknown benchmark 'pocket-wepon'", "did you mean 'pocket-weapon'"),
    "ablate sage --benchmark pocket-instrumnt": ("'pocket-instrumnt'", "did you mean 'pocket-instrument'"),
    "evaluate e --benchmark none.yaml": ("cannot read none.yaml",),
    "evaluate e --benchmark field.yaml": ("field.yaml, line 1: has an unknown field 'nam'", "did you mean 'name'"),
    "benchmarks show pocket-wepon": ("unknown benchmark 'pocket-wepon'", "did you mean 'pocket-weapon'"),
    "benchmarks new gun --out b.txt": ("b.txt does not end in .yaml",),
    "evaluate e": ("no benchmark for 'gun'", "pocket-weapon"),
    "evaluate e --benchmark pocket-weapon": (
        "pocket-weapon does not fit this erasure",
        "measured on 'weapon', and the erasure is of gun",
        "measured by a benchmark for pocket, and the model is tiny",
        "--allow-benchmark-mismatch",
    ),
    "attack e --benchmark pocket-weapon": ("does not fit this erasure", "--allow-benchmark-mismatch"),
    f"evaluate e {WEAPON} --split tset": ("unknown split 'tset'", "did you mean 'test'"),
    f"attack e {WEAPON} --split dav": ("unknown split 'dav'", "did you mean 'dev'"),
    "erase gun --out x --model poket": ("unknown model 'poket'", "did you mean 'pocket'"),
    "erase gun --out x --model home": ("home", "no model_index.json"),
    f"evaluate e {WEAPON} --model poket": ("unknown model 'poket'", "did you mean 'pocket'"),
    f"attack e {WEAPON} --model poket": ("unknown model 'poket'", "did you mean 'pocket'"),
    "transfer e --to poket": ("unknown model 'poket'", "did you mean 'pocket'"),
    "erase gun --out x --set steps": ("--set 'steps'", "name=value"),
    "attack e --set phrases": ("--set 'phrases'", "name=value"),
    # concepts
    "erase --out x": ("no concept given", "'weapon'"),
    "erase '' --out x": ("name is empty",),
    "erase gun '  ' --out x": ("name is empty",),
    "erase gun 'Gun ' --out x": ("given twice", "leave one out"),
    "erase gun --out x --anchor GUN": ("the concept itself",),
    "erase gun --out x --retain-file gun.txt": ("'a photo of a Gun.'", "take it out of retain_prompts"),
    "erase pistol --synonym gun --out x --retain-file gun.txt": ("contains 'gun'",),
    "erase cat gun --out x --retain-file gun.txt": ("retain prompt", "'a photo of a cat'"),
    "erase gun --out x --retain-file none.txt": ("cannot read none.txt",),
    "erase gun --out x --retain-file home": ("cannot read home",),
    "erase gun --out x --retain-file latin.txt": ("cannot read latin.txt", "UTF-8"),
    "erase bad.yaml --out x": ("bad.yaml is not valid YAML",),
    "erase field.yaml --out x": ("unknown concept field 'nam'", "did you mean 'name'"),
    "erase list.yaml --out x": ("mapping", "list"),
    "erase code.yaml --out x": ("code.yaml is not valid YAML",),
    "erase empty.yaml --out x": ("name is empty",),
    "erase none.yaml --out x": ("cannot read none.yaml",),
    # output folders
    "erase gun --out e": ("e exists already", "--overwrite"),
    "erase gun --out home": ("home exists already",),
    "erase gun --out no/where": ("does not exist", "--out"),
    "erase gun --out gun.txt/x": ("does not exist",),
    "sample 'a cat' --out cat.jpg": ("cat.jpg does not end in .png", "cat.png"),
    # erasures
    "show home": ("home holds no erasure",),
    "verify none": ("none holds no erasure",),
    "report home": ("erasure",),
    "evaluate none": ("none is not an erasure", "efface erase"),
    "attack gun.txt": ("gun.txt is not an erasure", "efface erase"),
    "transfer home --to pocket": ("home is not an erasure", "efface erase"),
    "attack e --replay home": ("home is not an attack set", "efface attack"),
    f"evaluate bit {WEAPON}": ("bit", "weights.safetensors", "SHA-256"),
    f"attack bit {WEAPON}": ("bit", "weights.safetensors", "SHA-256"),
    "transfer bit --to pocket --out y": ("bit", "weights.safetensors", "SHA-256"),
    f"evaluate cut {WEAPON}": ("cut", "weights.safetensors", "truncated"),
    f"attack cut {WEAPON}": ("cut", "weights.safetensors", "truncated"),
    "report cut": ("cut",),
}
"""By command: words of the error message."""
PRINTED = (
    "--help", "--version", "erase --help", "attack --help", "evaluate --help", "report --help", "sample --help",
    "show --help", "verify --help", "demo --help", "transfer --help", "export --help", "ablate --help",
    "topology --help", "gram --help", "revise --help", "reproduce sage-i2p --help", "concepts --json",
    "methods --json", "attacks --json", "benchmarks --json", "models --json", "show e --json", "verify e --json",
)  # fmt: skip
"""Commands that succeed without a model."""
RUN_ALL = f"""
import contextlib, io, json, sys
import efface
outputs = {{"import efface": [m for m in {HEAVY} if m in sys.modules]}}
from efface.cli import main
for command, args in json.load(sys.stdin).items():
    sys.argv = ["efface", *args]
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as err:
        try:
            code = main() or 0
        except SystemExit as end:
            code = end.code or 0
        except BaseException as error:
            code = "Traceback: " + repr(error)
    outputs[command] = [code, out.getvalue(), err.getvalue(), [m for m in {HEAVY} if m in sys.modules]]
print(json.dumps(outputs))
"""


@pytest.fixture(scope="module")
def outputs(tmp_path_factory, erasure_folder):
    """The output of every command and its heavy imports, and the folder's content before and after all of them."""
    folder = tmp_path_factory.mktemp("refusals")
    for name, data in FILES.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(data)
    for name in ("e", "bit", "cut"):
        shutil.copytree(erasure_folder, folder / name)
        damage(folder / name / "weights.safetensors", name)
    before = content(folder)
    commands = json.dumps({command: shlex.split(command) for command in (*REFUSED, *PRINTED)})
    process = subprocess.run(
        [sys.executable, "-c", RUN_ALL],
        input=commands,
        capture_output=True,
        text=True,
        cwd=folder,
        check=True,
        timeout=300,
    )
    return json.loads(process.stdout), before, content(folder)


@pytest.mark.parametrize("command", REFUSED)
def test_the_error_is_one_line_and_imports_nothing_heavy(outputs, command):
    code, out, err, heavy = outputs[0][command]
    check_refused(CommandOutput(code, out, err), *REFUSED[command])
    assert heavy == []
    if not command.startswith("verify"):
        assert out == ""


@pytest.mark.parametrize("command", PRINTED)
def test_listings_and_help_import_nothing_heavy(outputs, command):
    code, out, err, heavy = outputs[0][command]
    assert (code, err, heavy) == (0, "", [])
    assert out.strip()


def test_no_command_changes_a_file(outputs):
    by_command, before, after = outputs
    assert by_command["import efface"] == []
    assert after == before


@pytest.mark.parametrize(
    "command",
    ["sample WRONG", "erase WRONG", "erase gun --synonym WRONG", "erase gun --retain-file retain.txt", "erase c.yaml"],
)
def test_a_refused_prompt_is_not_quoted(command, capfd, tmp_path, model_folder, monkeypatch):
    wrong = "an image of a " + " ".join(("nude", "child"))
    (tmp_path / "retain.txt").write_text(f"a dog\n{wrong}\n")
    (tmp_path / "c.yaml").write_text(f"name: gun\nsynonyms: [{wrong}]\n")
    monkeypatch.chdir(tmp_path)
    args = [wrong if word == "WRONG" else word for word in command.split()]
    output = call(capfd, *args, "--out", "out.png", "--model", model_folder)
    check_refused(output, "refused: ", "content_policy.md")
    assert "nude" not in output.err + output.out
    assert not (tmp_path / "out.png").exists()
