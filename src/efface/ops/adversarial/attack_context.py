"""Context of an attack: its run, and access to the model without the erasure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field

import torch

from efface.core.attack_set import AttackTask
from efface.core.erasure import Erasure
from efface.models.editable import EditableModel
from efface.models.parameter_groups import qualified_name
from efface.models.protocol import Conditioning, Params, Tokens
from efface.models.soft_prompt import SoftTokens
from efface.models.tensor_names import canonical_paths
from efface.ops.editing.apply import active_erasures, apply, remove
from efface.ops.editing.unedited import without_insertions
from efface.ops.training.run import Run

from .attack_objective import Encode


@dataclass
class AttackContext(Run):
    """The run of an attack on a model with an applied erasure.

    Attributes:
        original_params: the original values of the tensors that the erasure changes, by component, for ``params=``.
        erasure_disabled: removes the erasure from the model for the body of ``with run.erasure_disabled():``.
    """

    original_params: Mapping[str, Params] = field(default_factory=dict, repr=False)
    erasure_disabled: Callable[[], AbstractContextManager[None]] = field(default=nullcontext, repr=False)

    def generator_for(self, tasks: Sequence[AttackTask]) -> torch.Generator:
        """Returns a CPU generator for a batch of tasks, seeded by its first task and independent of other batches."""
        return torch.Generator().manual_seed(self.seed_for("search", tasks[0].prompt, tasks[0].seed))

    def original_encoder(self, model: EditableModel) -> Encode:
        """Returns `encode` of the unedited text encoders, with gradients; the erasure stays applied."""
        encoders = [part for name, part in model.components.items() if name.startswith("text_encoder")]
        params = {
            qualified_name(component, name): tensor
            for component, params in self.original_params.items()
            if component.startswith("text_encoder")
            for name, tensor in params.items()
        }

        def encode(prompts: Tokens, *, soft: SoftTokens | None = None) -> Conditioning:
            with ExitStack() as stack:
                for encoder in encoders:
                    stack.enter_context(without_insertions(encoder))
                return model.encode(prompts, soft=soft, params=params)

        return encode


def snapshot_originals(model: EditableModel, erasure: Erasure) -> dict[str, Params]:
    """Copies the tensors that an erasure will overwrite, by component and by the component's own tensor names."""
    originals: dict[str, Params] = {}
    for edit in erasure.edits:
        if edit.component in model.components:
            module = model.components[edit.component]
            paths, parameters = canonical_paths(module), dict(module.named_parameters())
            copies = {paths[name]: parameters[paths[name]].detach().clone() for name in edit.targets if name in paths}
            originals[edit.component] = {**originals.get(edit.component, {}), **copies}
    return originals


@contextmanager
def erasure_applied(
    model: EditableModel, erasure: Erasure, allow_base_mismatch: bool = False
) -> Iterator[Callable[[], AbstractContextManager[None]]]:
    """Applies an erasure for the body of the ``with`` and restores the model afterwards.

    Args:
        model: the model.
        erasure: the erasure.
        allow_base_mismatch: whether to apply it to another base model than its own.

    Yields:
        A function whose context manager removes the erasure temporarily.
    """
    depth = len(active_erasures(model))

    @contextmanager
    def disabled() -> Iterator[None]:
        remove(model)
        try:
            yield
        finally:
            apply(model, erasure, allow_base_mismatch=allow_base_mismatch)

    apply(model, erasure, allow_base_mismatch=allow_base_mismatch)
    try:
        yield disabled
    finally:
        while len(active_erasures(model)) > depth:
            remove(model)
