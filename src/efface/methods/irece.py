"""IRECE: inference-time perturbation of latents, the defence of M-ErasureBench (arXiv 2512.22877).

**Re-derived from the abstract; no code and no constants are published, so that its numbers cannot be compared.** At
early sampling steps the unedited model looks for the concept in the latents, whatever the user's prompt is:

    A = attention of e*(z_t, t, c) to the concept's words c, averaged over heads and layers at a quarter of the side
    M = 1 where A, scaled to [0, 1] in each image, reaches ``threshold``
    z_t <- (1 - M) z_t + M ( sqrt(1 - rho) z_t + sqrt(rho) sigma_t n ),    n ~ N(0, I)

with rho = ``strength`` and the latents' noise level sigma_t. The rest of the step is the erased model's. It works over
any erasure that changes weights or inserts modules: compose it with one, or apply both. Attacks that start from
inverted latents need no prompt, and this is what it is for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

from efface.core.concept import Concept
from efface.core.edits import Edit
from efface.core.erasure import Erasure
from efface.core.method_card import MethodCard
from efface.models.editable import EditableModel
from efface.ops.editing.latent_perturbation import PerturbationSettings
from efface.ops.training.run import Run

CARD = MethodCard(
    name="irece",
    title="IRECE",
    paper="M-ErasureBench: A Comprehensive Multimodal Benchmark of Concept Erasure in Diffusion Models, WACV 2026",
    arxiv="2512.22877",
    families=("sd1", "sd2", "sdxl"),
    trains="",
    needs_gradient=False,
    needs_images=False,
    reconstruction=True,
    summary="Puts fresh noise where the unedited model attends to the concept; for use over another erasure.",
)


@dataclass(frozen=True)
class Config:
    """IRECE's settings; the defaults are ours."""

    first: float = field(default=0.0, metadata={"help": "Share of the sampling steps before the first perturbed one."})
    last: float = field(default=0.5, metadata={"help": "Share of the steps at which the perturbation ends."})
    threshold: float = field(default=0.5, metadata={"help": "Smallest attention within the concept's region."})
    presence: float = field(
        default=0.0, metadata={"help": "Largest over mean attention from which an image is perturbed; 0: always."}
    )
    strength: float = field(default=0.5, metadata={"help": "Share rho of fresh noise.", "range": "0 to 1"})


PRESETS: dict[str, dict[str, object]] = {"paper": {}}


def irece(model: EditableModel, concepts: Sequence[Concept], config: Config, run: Run) -> Erasure:
    """Returns one guidance edit; the regions of all concepts' words are joined."""
    phrases = [word for concept in concepts for word in concept.words]
    params = {"rule": "irece", "phrases": phrases, **asdict(config)}
    PerturbationSettings(tuple(phrases), **asdict(config))  # raises for settings that no sampler could use
    return run.erasure([Edit("sampler", "guidance", params=params)])
