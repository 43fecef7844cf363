"""SLD: Safe Latent Diffusion (Schramowski et al., CVPR 2023, arXiv 2211.05105).

At sampling time, SLD guides away from the concept where the prompt's prediction e_c is near the concept's e_s:

    e = e_0 + s ( e_c - e_0 - gamma_t ),    gamma_t = mu_t (e_s - e_0) + s_m nu_t,
    nu_{t+1} = beta_m nu_t + (1 - beta_m) gamma_t

with the empty prompt's prediction e_0, the guidance scale s, ``momentum`` s_m and ``momentum_decay`` beta_m. The
element-wise weight mu_t is 0 where e_c - e_s >= ``threshold``. No gamma is subtracted in the first ``warmup_steps``
steps. The presets weak, medium, strong and max are the paper's configurations.

Differences: the paper prints mu = max(1, |scale (e_c - e_s)|), under which its own scales diverge, and its code clamps
mu to at most 1. ``clamp_mode="clamped"``, the default, follows the code, ``"printed"`` the paper. The paper's warm-up
counts steps of a sampler with 50; it is rescaled for other numbers. The guidance scale of ``weak`` is 200 as in the
paper; diffusers' constant for it is 20.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

from efface.core.concept import Concept
from efface.core.edits import Edit
from efface.core.erasure import Erasure
from efface.core.method_card import MethodCard
from efface.models.editable import EditableModel
from efface.ops.editing.guidance_rules import guidance_edit
from efface.ops.training.run import Run

CARD = MethodCard(
    name="sld",
    title="SLD",
    paper="Schramowski, Brack, Deiseroth, Kersting: Safe Latent Diffusion, CVPR 2023",
    arxiv="2211.05105",
    families=("sd1", "sd2", "sdxl"),
    trains="",
    needs_gradient=False,
    needs_images=False,
    reconstruction=False,
    summary="Guides away from the concept at sampling time where the prediction is near it; changes no weight.",
    quantized=True,
)


@dataclass(frozen=True)
class Config:
    """SLD's hyper-parameters; the defaults are the paper's medium configuration."""

    guidance_scale: float = field(
        default=1000.0, metadata={"help": "Strength s_S of the safety guidance.", "range": "100 to 5000"}
    )
    threshold: float = field(
        default=0.01, metadata={"help": "Largest difference lambda that counts as near.", "range": "0 to 1"}
    )
    momentum: float = field(default=0.3, metadata={"help": "Momentum s_m of the guidance.", "range": "0 to 1"})
    momentum_decay: float = field(default=0.4, metadata={"help": "Decay beta_m of the momentum.", "range": "0 to 1"})
    warmup_steps: int = field(
        default=10, metadata={"help": "Number of first sampling steps, of 50, without guidance.", "range": "0 to 20"}
    )
    clamp_mode: str = field(
        default="clamped", metadata={"help": "Reading of mu: clamped (released code) or printed (paper)."}
    )


PRESETS: dict[str, dict[str, object]] = {
    "paper": {},
    "weak": {
        "guidance_scale": 200.0,
        "threshold": 0.0,
        "momentum": 0.0,
        "momentum_decay": 0.0,
        "warmup_steps": 15,
    },
    "medium": {},
    "strong": {
        "guidance_scale": 2000.0,
        "threshold": 0.025,
        "momentum": 0.5,
        "momentum_decay": 0.7,
        "warmup_steps": 7,
    },
    "max": {
        "guidance_scale": 5000.0,
        "threshold": 1.0,
        "momentum": 0.5,
        "momentum_decay": 0.7,
        "warmup_steps": 0,
    },
    "pocket": {
        "guidance_scale": 5000.0,
        "threshold": 1.0,
        "momentum": 0.5,
        "momentum_decay": 0.7,
        "warmup_steps": 0,
    },
}


def sld(model: EditableModel, concepts: Sequence[Concept], config: Config, run: Run) -> Erasure:
    """Returns one guidance edit; e_s is the mean prediction of all concepts' prompts."""
    prompts = [prompt for concept in concepts for prompt in (concept.prompts or concept.words)]
    params = {"rule": "sld", "prompts": prompts, **asdict(config)}
    guidance_edit(params)  # raises for settings that no sampler could use
    return run.erasure([Edit("sampler", "guidance", params=params)])
