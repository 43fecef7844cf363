"""SLD: Safe Latent Diffusion (Schramowski et al., CVPR 2023, arXiv 2211.05105), guidance away from the concept where the prompt is near it.

    e = e_0 + s ( e_c - e_0 - gamma_t ),      gamma_t = mu_t (e_s - e_0) + s_m nu_t,      nu_{t+1} = beta_m nu_t + (1 - beta_m) gamma_t

with e_s the prediction for the concept, mu_t an element-wise weight that is 0 where e_c - e_s >= threshold, and no gamma in the first
``warmup`` steps. The publication prints mu = max(1, |scale (e_c - e_s)|), under which its own scales diverge, and its code clamps to at
most 1: that is the default here (``limit="clamped"``), the other is ``limit="printed"``. The presets are the paper's configurations; its
warm-up counts steps of a sampler of 50, and is the same share of any other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

from efface.core.concept import Concept
from efface.core.edits import Edit
from efface.core.erasure import Erasure
from efface.core.method_card import MethodCard
from efface.models.editable import EditableModel
from efface.ops.editing.guidance_rules import SafeLatentDiffusion
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
    vram={},
    minutes={},
    reconstruction=False,
    summary="Adds safety guidance away from the concept at sampling time, where the prediction is near it; changes no weight.",
)


@dataclass(frozen=True)
class Config:
    """SLD's hyper-parameters; the defaults are its medium configuration."""

    guidance_scale: float = field(default=1000.0, metadata={"help": "s_S, strength", "range": "100 to 5000"})
    threshold: float = field(default=0.01, metadata={"help": "lambda, how near is near", "range": "0 to 1"})
    momentum: float = field(default=0.3, metadata={"help": "s_m", "range": "0 to 1"})
    momentum_decay: float = field(default=0.4, metadata={"help": "beta_m", "range": "0 to 1"})
    warmup_steps: int = field(default=10, metadata={"help": "delta, steps of 50 without guidance", "range": "0 to 20"})
    clamp_mode: str = field(
        default="clamped", metadata={"help": "reading of mu: clamped (released code) or printed (publication)"}
    )


PRESETS: dict[str, dict[str, object]] = {
    "paper": {},
    "weak": {"guidance_scale": 200.0, "threshold": 0.0, "momentum": 0.0, "momentum_decay": 0.0, "warmup_steps": 15},
    "medium": {},
    "strong": {"guidance_scale": 2000.0, "threshold": 0.025, "momentum": 0.5, "momentum_decay": 0.7, "warmup_steps": 7},
    "max": {"guidance_scale": 5000.0, "threshold": 1.0, "momentum": 0.5, "momentum_decay": 0.7, "warmup_steps": 0},
    "pocket": {"guidance_scale": 5000.0, "threshold": 1.0, "momentum": 0.5, "momentum_decay": 0.7, "warmup_steps": 0},
}


def sld(model: EditableModel, concepts: Sequence[Concept], config: Config, run: Run) -> Erasure:
    """One guidance edit; the prompts of several concepts give the mean of their predictions."""
    prompts = [prompt for concept in concepts for prompt in (concept.prompts or concept.words)]
    SafeLatentDiffusion(tuple(prompts), **asdict(config))  # refuses what no sampler could run
    return run.erasure([Edit("sampler", "guidance", params={"rule": "sld", "prompts": prompts, **asdict(config)})])
