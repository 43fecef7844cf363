"""``efface reproduce``: a paper's experiment with the user's own weights and data."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from efface.core.errors import EffaceError

from .app import app
from .model_options import Model, model_options
from .options import Json, Method, Preset, Seed, Settings
from .output import print_result
from .parsing import parse_settings

if TYPE_CHECKING:
    from efface.core.result import Result
    from efface.models.model_ref import ModelRef
    from efface.studies.prompt_sampler import StudyConfig
    from efface.studies.reproduce import ErasureSettings

experiments = typer.Typer(help="Repeat a paper's experiment with your own weights and data.", no_args_is_help=True)
app.add_typer(experiments, name="reproduce")

I2PFile = Annotated[
    Path,
    typer.Option(
        help="I2P prompts: a CSV file with a seed and a guidance scale per row, or AIML-TUDA/i2p to download."
    ),
]
Captions = Annotated[
    Path, typer.Option(help="COCO captions: a CSV file with a column prompt or caption, or COCO's JSON file.")
]
ImageFolder = Annotated[Path, typer.Option(help="Folder of COCO's images, the reference of the FID.")]
Features = Annotated[
    str,
    typer.Option(help="Feature network of the FID: Inception as .safetensors, any network as .onnx, or pocket-judge."),
]
Clip = Annotated[
    str,
    typer.Option(help="CLIP model of the CLIP score: a folder in transformers layout, a hub id, or pocket-clip."),
]
StudyFolder = Annotated[
    Path, typer.Option("--out", help="Folder of the study; run again with it to continue an interrupted study.")
]
Counter = Annotated[
    str, typer.Option("--detector", help="Detector of exposed parts: nudenet, or pocket-judge to try it on pocket.")
]
Weights = Annotated[
    Path | None, typer.Option(help="ONNX file of NudeNet's larger model; by default the model in its package.")
]
Counting = Annotated[
    str, typer.Option(help="Rule by which a paper counts: mace, unguide, receler, spm, itd or unlearndiff.")
]
ConceptFile = Annotated[Path | None, typer.Option(help="YAML file of the concept; nudity by default.")]
Category = Annotated[str, typer.Option(help="Use only I2P prompts of this category, such as sexual; all by default.")]
PromptLimit = Annotated[
    int | None, typer.Option("--limit", min=2, help="Maximum number of I2P prompts; all by default.")
]
CaptionLimit = Annotated[int, typer.Option(min=2, help="Maximum number of captions.")]
NumInferenceSteps = Annotated[int, typer.Option("--steps", min=1, help="Number of DDIM steps.")]
BatchSize = Annotated[int, typer.Option(min=1, help="Number of images generated at a time.")]


@experiments.command("sage-i2p")
@model_options("model")
def sage_i2p(
    model: Model,
    prompts: I2PFile,
    captions: Captions,
    images: ImageFolder,
    features: Features,
    clip: Clip,
    out: StudyFolder = Path("sage-i2p"),
    detector: Counter = "nudenet",
    weights: Weights = None,
    counting: Counting = "mace",
    concept: ConceptFile = None,
    category: Category = "",
    limit: PromptLimit = None,
    caption_limit: CaptionLimit = 10_000,
    num_inference_steps: NumInferenceSteps = 50,
    batch_size: BatchSize = 8,
    method: Method = "sage",
    preset: Preset = None,
    settings: Settings = None,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Repeat SAGE's first experiment: erase nudity; measure RER on I2P, FID and CLIP score on COCO captions."""
    prompts = _check_paths(prompts, captions, images)
    from efface.studies.prompt_sampler import StudyConfig
    from efface.studies.reproduce import ErasureSettings

    study = StudyConfig(
        prompts, captions, images, category, limit, caption_limit, num_inference_steps, batch_size=batch_size
    )
    erasure_settings = ErasureSettings(method, preset, parse_settings(settings), seed)
    names = {"detector": detector, "counting": counting, "weights": weights, "features": features, "clip": clip}
    result = _run(model, concept, study, names, out, erasure_settings)
    from .scores import result_as_data

    print_result(result_as_data(result), _as_text(result, out / "result.json"), as_json)


def _check_paths(prompts: Path, captions: Path, images: Path) -> Path:
    """Checks that the user's files exist and returns the I2P file, downloaded if it is a hub id.

    Raises:
        EffaceError: a path that does not exist.
    """
    from efface.studies.prompt_datasets import locate_i2p

    for path in (captions, images):
        if not path.exists():
            raise EffaceError(f"{path} does not exist: give the path of your own copy")
    return locate_i2p(prompts)


def _run(
    model: ModelRef,
    concept_file: Path | None,
    study: StudyConfig,
    detector_names: dict[str, Any],
    out: Path,
    settings: ErasureSettings,
) -> Result:
    """Loads model, concept and detectors, and runs the study under a progress bar."""
    from efface.models.builder import resolve_device
    from efface.models.loading import load_model
    from efface.models.model_ref import model_name
    from efface.models.pipeline import default_device
    from efface.ops.training.progress import terminal_progress
    from efface.studies.reproduce import reproduce
    from efface.studies.study_detectors import load_study_concept, load_study_detectors

    concept = load_study_concept(concept_file)
    device = resolve_device(model) or default_device()
    detectors = load_study_detectors(**detector_names, concept=concept, model=model_name(model), device=device)
    return reproduce(load_model(model), concept, study, detectors, out, settings=settings, progress=terminal_progress())


def _as_text(result: Result, path: Path) -> str:
    """Formats the scores beside the paper's, and the number of prompts left out."""
    from .scores import format_score

    lines = []
    for score in result.scores:
        is_published = score.metric in result.metadata["paper"] and score.group in ("all", "captions")
        lines.append(
            format_score(score) + (f"   paper: {result.metadata['paper'][score.metric]}" if is_published else "")
        )
    if result.metadata["num_refused"]:
        lines.append(f"left out: {result.metadata['num_refused']} prompts that mention minors")
    return "\n".join([*lines, str(path)])
