"""Names to objects: what lies flat in a package, and third-party plugins; nothing is imported before it is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import entry_points
from importlib.util import find_spec
from pkgutil import iter_modules
from typing import Any

from .config import build_config, read_config, resolve_preset
from .errors import EffaceError, UnknownNameError
from .method_card import MethodCard, read_card


@dataclass(frozen=True)
class Registry:
    """One kind of thing; `package` is both the package whose files are the built-in ones and the entry-point group of plugins.

    A built-in name is a file: ``efface/methods/esd.py`` is the method ``esd`` and holds the function ``esd``.
    """

    kind: str
    package: str

    def targets(self) -> dict[str, str]:
        """Every name and its ``module:object``, sorted; imports none of them."""
        spec = find_spec(self.package)
        folders = spec.submodule_search_locations if spec else None
        names = [
            module.name
            for module in iter_modules(folders or [])
            if not module.name.startswith("_") and not module.ispkg
        ]
        found = {name: f"{self.package}.{name}:{name}" for name in names}
        for plugin in entry_points(group=self.package):
            if found.get(plugin.name, plugin.value) != plugin.value:
                raise EffaceError(
                    f"{self.kind} {plugin.name!r} is there twice, as {found[plugin.name]} and {plugin.value}: uninstall one"
                )
            found[plugin.name] = plugin.value
        return dict(sorted(found.items()))

    def names(self) -> tuple[str, ...]:
        """Every name, sorted."""
        return tuple(self.targets())

    def get(self, name: str) -> object:
        """The object of that name, imported now; raises `UnknownName`, or `EffaceError` where a package that it needs is missing."""
        module, _, attribute = self._target(name).partition(":")
        try:
            loaded = import_module(module)
        except ImportError as error:
            raise EffaceError(f"{self.kind} {name!r} cannot be loaded ({error}): install what it needs") from error
        if not hasattr(loaded, attribute):
            raise EffaceError(f"{self.kind} {name!r} is not in its module: {module} has no {attribute!r}")
        return getattr(loaded, attribute)

    def card(self, name: str) -> MethodCard:
        """The card of that name, read without importing it (see `read_card`)."""
        return read_card(self._target(name).partition(":")[0])

    def validate_config(self, name: str, preset: str | None, model: str, overrides: Mapping[str, Any]) -> str:
        """Checks a preset and the fields that are set otherwise, without importing anything; returns the preset's name.

        Raises:
            UnknownName: no such preset or field. EffaceError: a value of another type.
        """
        config, presets = read_config(self._target(name).partition(":")[0])
        chosen = resolve_preset(presets, preset, model)
        build_config(config, presets, chosen, overrides)
        return chosen

    def _target(self, name: str) -> str:
        targets = self.targets()
        if name not in targets:
            raise UnknownNameError(self.kind, name, targets)
        return targets[name]


METHODS = Registry("method", "efface.methods")
ATTACKS = Registry("attack", "efface.attacks")
