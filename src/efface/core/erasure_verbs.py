"""Methods of an erasure that act on a model or show it, as a user of diffusers expects them.

They call higher layers, and import them when they run: reading an artifact imports no torch.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from efface.ops.editing.apply import Applied

    from .erasure import Erasure


class ErasureVerbs:
    """What `Erasure` inherits; ``model`` is a diffusers pipeline, or a model from `efface.load_model`."""

    def apply(self, model: Any, allow_base_mismatch: bool = False) -> Applied:
        """Applies the erasure in place (see `efface.apply`); a pipeline then generates as the erased model.

        Raises:
            EffaceError: it is applied already, the model is another base, or the erasure changes the sampler, which
                a pipeline does not take from efface.
        """
        from efface.ops.editing.apply import apply

        return apply(model, cast("Erasure", self), allow_base_mismatch)

    def remove(self, model: Any) -> None:
        """Removes the erasure and restores every byte of the model.

        Raises:
            EffaceError: the erasure is not applied to the model, or another was applied later.
        """
        from efface.ops.editing.apply import remove_erasure

        remove_erasure(model, cast("Erasure", self))

    def applied(self, model: Any, allow_base_mismatch: bool = False) -> AbstractContextManager[Applied]:
        """Applies the erasure for the body of a ``with``."""
        from efface.ops.editing.apply import applied

        return applied(model, cast("Erasure", self), allow_base_mismatch)

    def _repr_html_(self) -> str:
        """Returns what a notebook shows: the erasure in one line, its effect, and images before and after."""
        from efface.reporting.notebook import erasure_html

        return erasure_html(cast("Erasure", self))
