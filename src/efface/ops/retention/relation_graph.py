"""Relation graph of retain prompts: a student keeps the cosines between the prompts' text encoder states."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import normalize

from efface.core.errors import EffaceError, UnknownNameError
from efface.models.protocol import Conditioning

GRAPH_REFERENCES = ("self", "cross")


class RelationGraphLoss:
    """Global retention loss of SAGE (arXiv 2506.09363): the student keeps the relations between retain prompts r_i.

        self     L = mean_ij ( cos(E(r_i), E(r_j)) - cos(E*(r_i), E*(r_j)) )^2          the paper's wording
        cross    L = mean_ij ( cos(E(r_i), E*(r_j)) - cos(E*(r_i), E*(r_j)) )^2

    E is the student, E* the original. A rotation of all states does not change the cosines within one encoder, but the
    denoiser reads absolute coordinates; the cross reference detects the rotation. All states of a prompt, without BOS,
    form one vector.

    Args:
        original: the original's conditioning of R prompts, ``(R, L, D)``.
        reference: one of `GRAPH_REFERENCES`.

    Raises:
        UnknownNameError: an unknown reference.
        EffaceError: fewer than two prompts.
    """

    def __init__(self, original: Conditioning, reference: str = "cross") -> None:
        if reference not in GRAPH_REFERENCES:
            raise UnknownNameError("graph reference", reference, GRAPH_REFERENCES)
        if len(original.states) < 2:
            raise EffaceError(
                f"a graph needs at least 2 retain prompts, not {len(original.states)}: give more with --retain-file"
            )
        self.reference = reference
        self._nodes = _nodes(original)
        self._relations = self._nodes @ self._nodes.T

    def __call__(self, student: Conditioning) -> Tensor:
        """Computes the loss from the student's conditioning of the same prompts, a scalar."""
        nodes = _nodes(student)
        relations = nodes @ (nodes if self.reference == "self" else self._nodes).T
        return (relations - self._relations).square().mean()


def _nodes(cond: Conditioning) -> Tensor:
    """Returns each prompt's states without BOS as one unit vector, ``(R, (L - 1) D)``."""
    return normalize(cond.states[:, 1:].flatten(1).float(), dim=-1)
