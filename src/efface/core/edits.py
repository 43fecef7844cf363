"""One edit of an erasure: the component it changes, the operation and the tensors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from .errors import CorruptArtifactError, EffaceError, UnknownNameError, check_known_keys
from .serialization import to_jsonable_dict

OPS = ("replace", "low_rank", "state", "module", "guidance")


@dataclass(frozen=True)
class Edit:
    """One step of an erasure; `apply` performs the steps in order.

    Attributes:
        component: the model's component, such as ``text_encoder``, ``unet`` or, for guidance, ``sampler``.
        op: ``replace`` (whole tensors), ``low_rank`` (added to a weight), ``state`` (an affine map or filter on encoder
            states), ``module`` (small networks hooked in), or ``guidance`` (a rule at sampling time).
        tensors: mapping from a role to a tensor's name in the file. The roles of ``replace`` are the component's
            canonical tensor names. The roles of ``low_rank`` come in pairs ``<canonical name>.down`` and
            ``<canonical name>.up``. Each other op defines its own roles.
        gate: condition under which the edit is active, such as a range of timesteps or a prompt filter; empty means
            always.
        params: numbers and texts of the op, such as a scale or the prompts of a guidance rule.

    Raises:
        EffaceError: an unknown op, or roles that do not fit it.
    """

    component: str
    op: str
    tensors: Mapping[str, str] = field(default_factory=dict)
    gate: Mapping[str, Any] = field(default_factory=dict)
    params: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.op not in OPS:
            raise UnknownNameError("edit op", str(self.op), OPS)
        if not isinstance(self.component, str) or not self.component:
            raise EffaceError(f"an edit of op {self.op!r} names no component: name one, such as 'unet'")
        for name in ("tensors", "gate", "params"):
            object.__setattr__(self, name, to_jsonable_dict(getattr(self, name), name))
        if not all(isinstance(name, str) for name in self.tensors.values()):
            raise EffaceError(f"the {self.op} edit of {self.component} must map every role to a tensor's name")
        if self.op == "replace" and not self.tensors:
            raise EffaceError(f"the replace edit of {self.component} replaces nothing")
        pairs = {f"{name}.{end}" for name in self.targets for end in ("down", "up")}
        if self.op == "low_rank" and set(self.tensors) != pairs:
            raise EffaceError(
                f"the low_rank edit of {self.component} needs the roles <name>.down and <name>.up for every weight"
            )

    @property
    def targets(self) -> frozenset[str]:
        """The canonical names of the component's tensors that the edit writes; empty for ops that write none."""
        if self.op == "replace":
            return frozenset(self.tensors)
        return frozenset(role.rpartition(".")[0] for role in self.tensors) if self.op == "low_rank" else frozenset()

    def to_dict(self) -> dict[str, Any]:
        """Returns all fields as JSON values; `from_dict` gives an equal edit."""
        return to_jsonable_dict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Edit:
        """Reads what `to_dict` returned; raises `EffaceError` for anything else."""
        check_known_keys("edit field", data, (item.name for item in fields(cls)))
        try:
            return cls(**data)
        except TypeError as error:
            raise CorruptArtifactError(f"an edit is incomplete ({error})") from error


@dataclass(frozen=True)
class Cost:
    """The cost of making an erasure.

    Attributes:
        seconds: wall time in seconds.
        peak_memory_bytes: peak memory of the device in bytes; None if not measured.
    """

    seconds: float
    peak_memory_bytes: int | None = None
