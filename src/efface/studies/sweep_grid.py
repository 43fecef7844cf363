"""The grid of a sweep: a YAML file, and the cells that it describes.

    model: pocket                        # the default
    methods: [uce, {method: esd, name: short, settings: {steps: 50}}]
    benchmarks: [pocket-weapon, pocket-style]
    attacks: [synonyms, {attack: inside_out, settings: {steps: 100}}]
    seeds: [0]                           # root seeds of the erasures and attacks
    limit: 32                            # maximum number of prompts of an attack; all by default
    images: 32                           # maximum number of images per group of an evaluation; all by default
    split: test
    evaluate: true                       # whether every erasure is evaluated on its benchmark, too
    controls: {pocket-weapon: control/}  # by benchmark, a model without its concept, for attacks that need one

A cell is one method on one benchmark's concept with one seed, and one attack or the evaluation. Cells that differ only
in the attack share their erasure.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

from efface.benchmarks.benchmark import Benchmark
from efface.core.erasure import Erasure
from efface.core.errors import EffaceError, check_known_keys
from efface.core.image_files import with_image_hash
from efface.core.method_card import MethodCard
from efface.core.registry import ATTACKS, METHODS, Registry
from efface.core.serialization import to_jsonable_dict
from efface.core.spec import RunSpec
from efface.core.text_files import parse_yaml, read_text
from efface.models.model_ref import base_bundled_model, model_name

from .sweep_cell import EVALUATION, Cell, Control, Variant


@dataclass(frozen=True)
class Grid:
    """A grid as read from its file; see the module's text for the fields."""

    model: str
    methods: tuple[Variant, ...]
    benchmarks: tuple[str, ...]
    attacks: tuple[Variant | None, ...]
    seeds: tuple[int, ...]
    limit: int | None
    images: int | None
    split: str
    controls: Mapping[str, Control]

    def cells(self) -> list[Cell]:
        """Returns all cells: benchmark by benchmark in the file's order, then by method, seed and attack."""
        loaded = {name: Benchmark.load(name) for name in self.benchmarks}
        cells = []
        for name, method, seed in product(self.benchmarks, self.methods, self.seeds):
            benchmark = loaded[name]
            benchmark.first_seed(self.split)
            run = RunSpec(self.model, {}, method.function, method.config, benchmark.concepts, seed, method.preset)
            common = (run, method, name, benchmark.name, benchmark.hash)
            cells += [Cell(*common, None, self.split, self.images)] if None in self.attacks else []
            cells += [
                Cell(*common, attack, self.split, self.limit, self._control(name, attack))
                for attack in self.attacks
                if attack is not None
            ]
        return cells

    def _control(self, benchmark: str, attack: Variant) -> Control | None:
        return self.controls.get(benchmark) if ATTACKS.card(attack.function).needs_control else None


IMAGE_MODELS = "image models"
FIELDS = ("model", "methods", "benchmarks", "attacks", "seeds", "limit", "images", "split", "evaluate", "controls")


def read_grid(path: Path) -> Grid:
    """Reads and checks a grid; loads no model and imports no method.

    Raises:
        EffaceError: the file cannot be read, a field or name is unknown, a value has the wrong type, or two cells
            are equal or have one name.
    """
    data = parse_yaml(read_text(path), str(path))
    if not isinstance(data, Mapping):
        raise EffaceError(f"{path} is not a grid: write 'methods: [uce]' and 'benchmarks: [pocket-weapon]'")
    try:
        return _grid(data)
    except EffaceError as error:
        raise EffaceError(f"{path}: {error}") from error


def _grid(data: Mapping[str, Any]) -> Grid:
    check_known_keys("grid field", data, FIELDS)
    model = data.get("model", "pocket")
    if not isinstance(model, str):
        raise EffaceError(f"model must be text, not {model!r}")
    name = base_bundled_model(model_name(model))
    methods = [_variant("method", METHODS, entry, name) for entry in _list(data, "methods")]
    attacks = [_variant("attack", ATTACKS, entry, name) for entry in _list(data, "attacks", ())]
    _check_names("method", methods)
    _check_names("attack", attacks)
    with_evaluation = _boolean(data, "evaluate")
    if not with_evaluation and not attacks:
        raise EffaceError("the grid has no cells: add attacks, or leave out 'evaluate: false'")
    benchmarks = tuple(str(item) for item in _list(data, "benchmarks"))
    seeds = tuple(_whole(item, "seeds", 0) for item in _list(data, "seeds", (0,)))
    for kind, items in (("benchmark", benchmarks), ("seed", seeds)):
        if len(set(items)) < len(items):
            raise EffaceError(f"two cells have one name: a {kind} is listed twice in {list(items)}; keep one")
    limit, images = (_whole(data[key], key, 1) if data.get(key) is not None else None for key in ("limit", "images"))
    entries = (None, *attacks) if with_evaluation else tuple(attacks)
    split, controls = str(data.get("split", "test")), _controls(data, benchmarks)
    grid = Grid(model, tuple(methods), benchmarks, entries, seeds, limit, images, split, controls)
    grid.cells()  # refuses unknown benchmarks and splits
    return grid


def _controls(data: Mapping[str, Any], benchmarks: Sequence[str]) -> dict[str, Control]:
    """Reads the control of each benchmark that has one."""
    folders = data.get("controls", {})
    if not isinstance(folders, Mapping):
        raise EffaceError(
            f"controls must name a folder by benchmark, not {folders!r}: write '{{pocket-weapon: FOLDER}}'"
        )
    check_known_keys("benchmark of the controls", folders, benchmarks)
    return {name: Control(str(folder), Erasure.load(str(folder)).spec.hash) for name, folder in folders.items()}


def _variant(kind: str, registry: Registry, entry: Any, model: str) -> Variant:
    """Builds a method or attack from its name, or from a mapping with its settings."""
    if isinstance(entry, str):
        entry = {kind: entry}
    if not isinstance(entry, Mapping) or not isinstance(entry.get(kind), str):
        raise EffaceError(f"{entry!r} is no {kind}: write its name, or {{{kind}: NAME, settings: {{...}}}}")
    check_known_keys(f"{kind} field of the grid", entry, (kind, "name", "preset", "settings"))
    function, settings = entry[kind], entry.get("settings") or {}
    if not isinstance(settings, Mapping):
        raise EffaceError(f"the settings of {function} must be a mapping such as {{steps: 50}}, not {settings!r}")
    preset = registry.validate_config(function, entry.get("preset"), model, settings)
    _check_kind(registry.card(function))
    defaults = {setting.name: setting.default for setting in registry.settings(function)}
    config = with_image_hash({**defaults, **registry.presets(function)[preset], **settings})
    name = str(entry.get("name", function))
    if name == EVALUATION or not re.fullmatch(r"[A-Za-z0-9_.-]{1,40}", name):
        raise EffaceError(f"{name!r} cannot name a {kind}: use up to 40 letters, digits, '-', '_' and '.'")
    return Variant(name, function, preset, to_jsonable_dict(settings), to_jsonable_dict(config))


def _check_kind(card: MethodCard) -> None:
    """Raises `EffaceError` for a method or attack that is not for models of images."""
    if IMAGE_MODELS not in card.kinds:
        raise EffaceError(f"{card.name} is for {' and '.join(card.kinds)}: a sweep measures {IMAGE_MODELS}")


def _check_names(kind: str, variants: Sequence[Variant]) -> None:
    """Raises `EffaceError` for two variants of one name, or of equal settings."""
    seen: dict[str, Variant] = {}
    for variant in variants:
        same = replace(variant, name="")
        if variant.name in seen:
            raise EffaceError(f"two cells have one name: the {kind} {variant.name!r} is listed twice; add 'name: ...'")
        if twin := next((other.name for other in seen.values() if replace(other, name="") == same), None):
            raise EffaceError(f"the {kind}s {twin!r} and {variant.name!r} have the same settings: keep one")
        seen[variant.name] = variant


def _list(data: Mapping[str, Any], name: str, default: Sequence[Any] | None = None) -> list[Any]:
    value = data.get(name, default)
    if value is None or isinstance(value, str | Mapping) or not isinstance(value, Sequence):
        raise EffaceError(f"{name} must be a list, not {value!r}: write '{name}: [...]'")
    if not value and default is None:
        raise EffaceError(f"{name} is empty: name at least one")
    return list(value)


def _whole(value: Any, name: str, low: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < low:
        raise EffaceError(f"{name} must be whole numbers from {low}, not {value!r}")
    return value


def _boolean(data: Mapping[str, Any], name: str) -> bool:
    value = data.get(name, True)
    if not isinstance(value, bool):
        raise EffaceError(f"{name} must be true or false, not {value!r}")
    return value
