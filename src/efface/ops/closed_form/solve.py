"""One least-squares problem behind the closed-form methods, solved once for every layer that reads the text.

Vectors are columns. K ``(d, m)`` are states of the tokens to erase, A ``(d, m)`` their target states, w their weights;
R ``(d, n)`` are states to preserve, with weights rho. For a matrix W that reads the states, the edited W' minimises

    sum_i w_i |W' k_i - W a_i|^2 + sum_j rho_j |W' r_j - W r_j|^2 + lambda |W' - W|_F^2

Every target is W times another state. Therefore the solution is W' = W (I + E) with the same

    E = (A - K) C,     C = diag(w) K^T Phi,     Phi = (lambda I + K diag(w) K^T + R diag(rho) R^T)^-1

for all layers, and rank(E) <= m. UCE (Gandikota et al., arXiv 2308.14761) states the problem; RECE, MACE, TRCE and
SPEED extend it. Two constraints come from SPEED (Li et al., arXiv 2503.07392): E may be restricted to a subspace with
the orthonormal basis U, so that nothing outside of it is changed, and states N may be invariant. With
G = U (U^T Phi^-1 U)^-1 U^T,

    Phi = G - G N (N^T G N + gamma I)^-1 N^T G

so that E N = 0 for gamma = 0. By Woodbury's identity gamma > 0 is the same as preserving N with the weights 1/gamma.

Everything is float64; systems are factored by Cholesky, and no inverse is formed. With fewer tokens than dimensions,
the dual system of their number is solved instead of one of size d:
C^T = P X (lambda diag(w)^-1 + X^T P X)^-1 with X = (K, R) and P = U U^T.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from efface.core.errors import EffaceError

from .factor import Factor, factorise
from .low_rank import LowRankUpdate
from .problem import ProblemTerms


@dataclass(frozen=True)
class Problem(ProblemTerms):
    """The least-squares problem with its solution (see the module's text)."""

    @cached_property
    def factor(self) -> Factor:
        """The factored system, also for targets of single layers.

        Raises:
            EffaceError: no pairs, or a singular system.
        """
        if not len(self.pairs):
            raise EffaceError("there is nothing to erase: give at least one pair of states")
        return factorise(self)

    def solve(self) -> LowRankUpdate:
        """Returns E as the product of ``A - K`` and C.

        Raises:
            EffaceError: no pairs, or a singular system.
        """
        return LowRankUpdate(self.pairs.anchor - self.pairs.source, self.factor.weighted(self.pairs).T)
