"""``efface reproduce``: a paper's experiment with the user's own weights and data."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from efface.core.errors import EffaceError

from .app import Json, app
from .model_options import Model, model_options

studies = typer.Typer(help="A paper's experiment as one command, with your own weights and data.", no_args_is_help=True)
app.add_typer(studies, name="reproduce")


@studies.command("sage-i2p")
@model_options("model")
def sage_i2p(
    model: Model,
    prompts: Annotated[
        Path, typer.Option(help="I2P: a CSV file with a seed and a guidance scale in every row, or AIML-TUDA/i2p.")
    ],
    captions: Annotated[
        Path, typer.Option(help="COCO captions: a CSV file with a column prompt or caption, or COCO's JSON.")
    ],
    images: Annotated[Path, typer.Option(help="Folder of COCO's images, the reference of the FID.")],
    features: Annotated[
        str, typer.Option(help="Features of the FID: Inception as .safetensors, a network as .onnx, or pocket-judge.")
    ],
    clip: Annotated[str, typer.Option(help="CLIP score: a folder in transformers layout, a hub id, or pocket-clip.")],
    out: Annotated[Path, typer.Option(help="Folder of the study; one that was interrupted goes on.")] = Path(
        "sage-i2p"
    ),
    detector: Annotated[
        str, typer.Option(help="What counts: nudenet, or pocket-judge for a try on pocket.")
    ] = "nudenet",
    weights: Annotated[
        Path | None, typer.Option(help="NudeNet's larger ONNX model; by default the one in its package.")
    ] = None,
    counting: Annotated[
        str, typer.Option(help="How papers count: mace, unguide, receler, spm, itd, unlearndiff.")
    ] = "mace",
    concept: Annotated[Path | None, typer.Option(help="YAML file of the concept; nudity by default.")] = None,
    category: Annotated[str, typer.Option(help="Only prompts of this category, such as sexual; all by default.")] = "",
    limit: Annotated[int | None, typer.Option(min=2, help="At most so many prompts.")] = None,
    caption_limit: Annotated[int, typer.Option(min=2, help="At most so many captions.")] = 10_000,
    steps: Annotated[int, typer.Option(min=1, help="DDIM steps of an image.")] = 50,
    batch: Annotated[int, typer.Option(min=1, help="Images drawn at once.")] = 8,
    method: Annotated[str, typer.Option(help="Which method.")] = "sage",
    preset: Annotated[str | None, typer.Option(help="Its preset; by default the model's, else paper.")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="A field of its configuration: name=value.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the erasure.")] = 0,
    as_json: Json = False,
) -> None:
    """SAGE's first experiment: nudity erased; RER on I2P by NudeNet, FID and CLIP score on captions of COCO."""
    for path in (captions, images):
        if not path.exists():
            raise EffaceError(f"{path} is not there: give the path of your own copy")
    from efface.studies.prompt_datasets import i2p_file

    prompts = i2p_file(prompts)
    from efface.models.builder import device_of
    from efface.models.loading import load_model, name_of
    from efface.models.pipeline import default_device
    from efface.ops.training.progress import RichProgress
    from efface.studies.prompt_sampler import StudyConfig
    from efface.studies.reproduce import reproduce
    from efface.studies.study_detectors import concept_of, load_study_detectors

    from .erase import parse_settings
    from .evaluate import as_data, format_score

    chosen, plan = (
        concept_of(concept),
        StudyConfig(prompts, captions, images, category, limit, caption_limit, steps, batch=batch),
    )
    tools = load_study_detectors(
        detector, counting, weights, features, clip, chosen, name_of(model), device_of(model) or default_device()
    )
    result = reproduce(
        load_model(model), chosen, plan, tools, out, method=method, preset=preset, config=parse_settings(settings or []), seed=seed,
        progress=RichProgress(),
    )  # fmt: skip
    if as_json:
        import json

        print(json.dumps(as_data(result)))
        return
    said = [
        f"{format_score(score)}{next_to(result.metadata['paper'], score.metric, score.group)}"
        for score in result.scores
    ]
    if result.metadata["left_out"]:
        said.append(f"left out: {result.metadata['left_out']} prompts that mention minors")
    print("\n".join([*said, str(out / "result.json")]))


def next_to(paper: dict[str, str], metric: str, group: str) -> str:
    """What the paper reports, where it reports that."""
    return f"   the paper: {paper[metric]}" if metric in paper and group in ("all", "captions") else ""
