"""What an attack gets: the run, and a way back to the model as it was before the erasure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field

import torch

from efface.core.attack_set import AttackTask
from efface.core.erasure import Erasure
from efface.models.editable import EditableModel
from efface.models.parameter_groups import qualified_names
from efface.models.protocol import Params
from efface.models.tensor_names import canonical_paths
from efface.ops.editing.apply import active_erasures, apply, remove
from efface.ops.training.run import Run


@dataclass
class AttackContext(Run):
    """A run of an attack on a model that has the erasure applied.

    Attributes:
        unedited: by component, the tensors that the erasure changed as they were before, for ``params=``.
        unerased: the erasure is off the model for the body of ``with run.unerased():``.
    """

    original_params: Mapping[str, Params] = field(default_factory=dict, repr=False)
    erasure_disabled: Callable[[], AbstractContextManager[None]] = field(default=nullcontext, repr=False)

    def generator_for(self, tasks: Sequence[AttackTask]) -> torch.Generator:
        """A generator for a batch of tasks, whatever was searched before it: on the CPU, seeded by the first of them."""
        return torch.Generator().manual_seed(self.seed_for("search", tasks[0].prompt, tasks[0].seed))

    @property
    def original_text_params(self) -> Params:
        """The tensors of all text encoders as they were before, for ``params=`` of `encode`."""
        text = {
            component: params
            for component, params in self.original_params.items()
            if component.startswith("text_encoder")
        }
        return {
            qualified_names(component, name): tensor
            for component, params in text.items()
            for name, tensor in params.items()
        }


def snapshot_originals(model: EditableModel, erasure: Erasure) -> dict[str, Params]:
    """By component, copies of the tensors that an erasure will write, by the component's own names."""
    found: dict[str, Params] = {}
    for edit in erasure.edits:
        if edit.component in model.components:
            module = model.components[edit.component]
            paths, own = canonical_paths(module), dict(module.named_parameters())
            copies = {paths[name]: own[paths[name]].detach().clone() for name in edit.targets if name in paths}
            found[edit.component] = {**found.get(edit.component, {}), **copies}
    return found


@contextmanager
def erasure_applied(
    model: EditableModel, erasure: Erasure, force: bool = False
) -> Iterator[Callable[[], AbstractContextManager[None]]]:
    """The erasure is on the model for the body; yields what takes it off for a while. Afterwards the model is as it was before."""
    depth = len(active_erasures(model))

    @contextmanager
    def unerased() -> Iterator[None]:
        remove(model)
        try:
            yield
        finally:
            apply(model, erasure, force=force)

    apply(model, erasure, force=force)
    try:
        yield unerased
    finally:
        while len(active_erasures(model)) > depth:
            remove(model)
