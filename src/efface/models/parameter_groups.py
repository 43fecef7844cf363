"""Groups of parameters: the tensors of one role, by canonical name (roles: `efface.models.parameter_roles`)."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.func import functional_call

from efface.core.errors import EffaceError

from .parameter_roles import TEXT_ENCODERS, RolePart, parse_role_part, select_paths
from .placement import hold, placed
from .recomputation import recomputes_with

TEXT_ENCODER_2, TEXT_ENCODER_3 = "text_encoder_2", "text_encoder_3"
_PREFIXED = (TEXT_ENCODER_2, TEXT_ENCODER_3)
"""Components whose parameters carry their name as a prefix; those of every other component carry none."""


def qualified_name(component: str, name: str) -> str:
    """Returns a parameter's name among those of all text encoders, as ``params`` of `encode` takes it."""
    return f"{component}.{name}" if component in _PREFIXED else name


def component_params(params: Mapping[str, Tensor], component: str) -> dict[str, Tensor]:
    """Returns the tensors of one component, by the component's own parameter names."""
    if component in _PREFIXED:
        prefix = f"{component}."
        return {name.removeprefix(prefix): tensor for name, tensor in params.items() if name.startswith(prefix)}
    prefixes = tuple(f"{other}." for other in _PREFIXED)
    return {name: tensor for name, tensor in params.items() if not name.startswith(prefixes)}


def call_with_params(module: nn.Module, params: Mapping[str, Tensor], *args: Any, **options: Any) -> Any:
    """Calls a module with these tensors in place of its own parameters.

    Without tensors it is a plain call: ``functional_call`` would first visit every submodule.
    """
    with placed(module, params) as tensors:
        if not tensors:
            return module(*args, **options)
        with recomputes_with(module, tensors):
            return functional_call(module, dict(tensors), args, options)


class _Parameters(dict[str, nn.Parameter]):
    """Parameters that a component stays on its device for; a plain dict allows no weak reference."""


@dataclass(frozen=True)
class ParameterGroup:
    """The parameters of one role.

    Attributes:
        role: the role as requested.
        components: names of the components that hold it, such as ``unet``, or both text encoders.
        parameters: by canonical name (see `qualified_name` for the second text encoder), in the model's order; the
            model's own parameters, not copies.
        paths: from canonical name to the name that ``params`` takes, which is the name within the component,
            qualified alike.
    """

    role: str
    components: tuple[str, ...]
    parameters: Mapping[str, nn.Parameter]
    paths: Mapping[str, str]

    @property
    def component(self) -> str:
        """The first component; the only one except for text roles of a model with two text encoders."""
        return self.components[0]

    def as_params(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Converts tensors by canonical name to the ``params`` that `encode` and `predict` take."""
        return {self.paths[name]: tensor for name, tensor in tensors.items()}


def select_parameters(
    components: Mapping[str, nn.Module], role: str, skip_last_layer: Collection[str] = ()
) -> ParameterGroup:
    """Selects the parameters of a role.

    Args:
        components: the model's, by name.
        role: such as ``cross_kv`` or ``text_mlp+text_attn:last``.
        skip_last_layer: names of the text encoders whose last layer the model does not read.

    Raises:
        UnknownNameError: there is no such role.
        EffaceError: the role joins denoiser and text encoder, names a component or layer that does not exist, or
            selects nothing.
    """
    parts_by_component: dict[str, list[RolePart]] = {}
    for text in role.split("+"):
        part = parse_role_part(text.strip(), components)
        for component in part.components:
            parts_by_component.setdefault(component, []).append(part)
    if len(parts_by_component) > 1 and not parts_by_component.keys() <= set(TEXT_ENCODERS):
        raise EffaceError(f"role {role!r} joins text encoder and denoiser: train each as a student of its own")
    parameters = _Parameters()
    paths: dict[str, str] = {}
    for component, parts in sorted(parts_by_component.items()):
        hold(components[component], parameters)
        selected = select_paths(components[component], parts, component in skip_last_layer)
        if not selected:
            raise EffaceError(f"role {role!r} selects nothing in this model's {component}")
        module_parameters = dict(components[component].named_parameters())
        for name, path in selected.items():
            parameters[qualified_name(component, name)] = module_parameters[path]
            paths[qualified_name(component, name)] = qualified_name(component, path)
    return ParameterGroup(role, tuple(sorted(parts_by_component)), parameters, paths)
