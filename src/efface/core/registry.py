"""Maps names to methods and attacks: the modules of a package and third-party plugins. Imports them only on access."""

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
from .settings import Setting, check_settings, read_settings


@dataclass(frozen=True)
class Registry:
    """The names of one kind of object, such as methods.

    A built-in name is a file: ``efface/methods/esd.py`` defines the method ``esd`` as the function ``esd``.

    Attributes:
        kind: word for the objects in messages, such as ``method``.
        package: package with the built-in objects; also the entry-point group of plugins.
    """

    kind: str
    package: str

    def targets(self) -> dict[str, str]:
        """Returns every name with its ``module:object``, sorted; imports none of them."""
        spec = find_spec(self.package)
        folders = spec.submodule_search_locations if spec else None
        names = [
            module.name
            for module in iter_modules(folders or [])
            if not module.name.startswith("_") and not module.ispkg
        ]
        targets = {name: f"{self.package}.{name}:{name}" for name in names}
        for plugin in entry_points(group=self.package):
            other = targets.setdefault(plugin.name, plugin.value)
            if other != plugin.value:
                raise EffaceError(
                    f"{self.kind} {plugin.name!r} is registered twice, as {other} and {plugin.value}: uninstall one"
                )
        return dict(sorted(targets.items()))

    def names(self) -> tuple[str, ...]:
        """Returns every name, sorted."""
        return tuple(self.targets())

    def get(self, name: str) -> object:
        """Imports and returns the object of a name.

        Raises:
            UnknownNameError: no such name.
            EffaceError: an import that fails, or a module without the object.
        """
        module, _, attribute = self._target(name).partition(":")
        try:
            loaded = import_module(module)
        except ImportError as error:
            raise EffaceError(f"{self.kind} {name!r} cannot be loaded ({error}): install what it needs") from error
        if not hasattr(loaded, attribute):
            raise EffaceError(f"{self.kind} {name!r} is not in its module: {module} has no {attribute!r}")
        return getattr(loaded, attribute)

    def card(self, name: str) -> MethodCard:
        """Returns the card of a name without importing its module (see `read_card`)."""
        return read_card(self._target(name).partition(":")[0])

    def setting_names(self, name: str) -> tuple[str, ...]:
        """Returns the names of the settings of a method or attack without importing its module."""
        return tuple(setting.name for setting in self.settings(name))

    def settings(self, name: str) -> list[Setting]:
        """Returns the settings of a method or attack without importing its module."""
        return read_settings(self._target(name).partition(":")[0])

    def presets(self, name: str) -> dict[str, dict[str, Any]]:
        """Returns the presets of a method or attack, each with the settings that it changes."""
        return read_config(self._target(name).partition(":")[0])[1]

    def validate_config(self, name: str, preset: str | None, model: str, overrides: Mapping[str, Any]) -> str:
        """Checks a preset and overridden fields without importing anything.

        Args:
            name: name of the method or attack.
            preset: name of the preset; None for the default of the model.
            model: name of the model.
            overrides: fields to set.

        Returns:
            The name of the preset.

        Raises:
            UnknownNameError: no such preset or field.
            EffaceError: a value of another type than the field's.
        """
        module = self._target(name).partition(":")[0]
        config, presets = read_config(module)
        chosen = resolve_preset(presets, preset, model)
        check_settings(read_settings(module), overrides, name)
        build_config(config, presets, chosen, overrides)
        return chosen

    def _target(self, name: str) -> str:
        targets = self.targets()
        if name not in targets:
            raise UnknownNameError(self.kind, name, targets)
        return targets[name]


METHODS = Registry("method", "efface.methods")
ATTACKS = Registry("attack", "efface.attacks")
