"""``efface benchmarks``: list, explain and write benchmarks."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from .app import app
from .model_options import POCKET, Model, model_options
from .options import BenchmarkRef, Json, Overwrite
from .output import print_result

benchmarks = typer.Typer(
    help="List the benchmarks; `efface benchmarks show NAME` explains one, `efface benchmarks new CONCEPT` writes one."
)
app.add_typer(benchmarks, name="benchmarks")

DomainPhrases = Annotated[
    list[str] | None,
    typer.Option("--domain", help="Another phrase for the concept, which no method receives; repeat for more."),
]
PromptFile = Annotated[
    Path | None,
    typer.Option(help="Text file with one prompt per line that shows the concept, in place of drafted prompts."),
]
JudgeClip = Annotated[
    str | None,
    typer.Option(
        "--clip",
        help="CLIP model that judges images of models other than pocket, a folder or hub id; without --domain, it also "
        "reads the group domain from the model's images.",
    ),
]
NudityDetector = Annotated[
    str | None,
    typer.Option("--detector", help="nudenet:COUNTING counts exposed parts (with --prompt-file)."),
]
Kind = Annotated[str | None, typer.Option(help="Kind of concept: object (default), style, identity or domain.")]


@benchmarks.callback(invoke_without_command=True)
def _list(context: typer.Context, as_json: Json = False) -> None:
    if context.invoked_subcommand is not None:
        return
    from efface.benchmarks.benchmark import Benchmark, benchmark_names
    from efface.benchmarks.classifier.benchmark import ClassifierBenchmark, classifier_benchmark_names
    from efface.benchmarks.language.benchmark import LanguageBenchmark, language_benchmark_names

    shipped: list[Any] = [Benchmark.load(name) for name in benchmark_names()]
    shipped += [LanguageBenchmark.load(name) for name in language_benchmark_names()]
    shipped += [ClassifierBenchmark.load(name) for name in classifier_benchmark_names()]
    rows = [
        {
            "name": benchmark.name,
            "version": benchmark.version,
            "description": benchmark.description,
            "model": benchmark.model,
            "concept": benchmark.concept.name,
        }
        for benchmark in shipped
    ]
    width = max(len(row["name"]) for row in rows)
    text = "\n".join(f"{row['name']:{width}} {row['description']} (version {row['version']})" for row in rows)
    print_result(rows, text, as_json)


@benchmarks.command()
def show(
    name: Annotated[str, typer.Argument(help="Name of a benchmark (`efface benchmarks` lists all), or a YAML file.")],
    as_json: Json = False,
) -> None:
    """Explain a benchmark: its groups, detector and sampler, and what a good erasure does."""
    from efface.benchmarks.benchmark import Benchmark
    from efface.benchmarks.benchmark_fields import benchmark_fields
    from efface.benchmarks.classifier.benchmark import ClassifierBenchmark, is_classifier_benchmark
    from efface.benchmarks.classifier.describe import classifier_benchmark_fields, describe_classifier_benchmark
    from efface.benchmarks.describe import describe_benchmark
    from efface.benchmarks.language.benchmark import LanguageBenchmark, is_language_benchmark
    from efface.benchmarks.language.describe import describe_language_benchmark, language_benchmark_fields

    if is_language_benchmark(name):
        questions = LanguageBenchmark.load(name)
        print_result(language_benchmark_fields(questions), describe_language_benchmark(questions), as_json)
        return
    if is_classifier_benchmark(name):
        images = ClassifierBenchmark.load(name)
        print_result(classifier_benchmark_fields(images), describe_classifier_benchmark(images), as_json)
        return
    benchmark = Benchmark.load(name)
    print_result(benchmark_fields(benchmark), describe_benchmark(benchmark), as_json)


@benchmarks.command()
@model_options("model")
def new(
    concept: Annotated[str, typer.Argument(help="Name of the concept, or its YAML file.")],
    out: Annotated[Path, typer.Option("--out", help="YAML file to write.")],
    model: Model = POCKET,
    domain: DomainPhrases = None,
    prompt_file: PromptFile = None,
    clip: JudgeClip = None,
    detector: NudityDetector = None,
    kind: Kind = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Write a benchmark for a concept, a YAML file to read, edit and evaluate with."""
    from efface import api
    from efface.core.text_files import read_lines
    from efface.ops.training.progress import terminal_progress

    from .parsing import ConceptOptions, build_concept

    target = build_concept(concept, ConceptOptions(kind=kind), model)
    prompts = [] if prompt_file is None else read_lines(prompt_file)
    benchmark = api.new_benchmark(
        target, out=out, model=model, domain=domain or (), prompts=prompts, clip=clip, detector=detector or "",
        overwrite=overwrite, progress=terminal_progress(),
    )  # fmt: skip
    from efface.benchmarks.benchmark_fields import benchmark_fields
    from efface.benchmarks.describe import describe_benchmark

    advice = f"read the groups near and other in {out}: take out each subject that belongs to the concept"
    usage = f"efface evaluate ERASURE --benchmark {out}"
    print_result(benchmark_fields(benchmark), f"{describe_benchmark(benchmark)}\n\n{advice}\nthen: {usage}", as_json)


@benchmarks.command()
@model_options("model")
def ecgvf(
    concept: Annotated[str, typer.Argument(help="Name of the concept.")],
    out: Annotated[Path, typer.Option("--out", help="YAML file to write.")],
    model: Model = POCKET,
    benchmark: BenchmarkRef = None,
    count: Annotated[int, typer.Option(help="Maximum number of pairs of a split.")] = 50,
    endpoint: Annotated[
        str | None, typer.Option(help="URL of a chat endpoint that writes the pairs, in place of templates.")
    ] = None,
    language_model: Annotated[str, typer.Option(help="Name of the model at the endpoint.")] = "",
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Write a benchmark of target and replacement prompts that the model's images verified (ECGVF)."""
    from efface.api.ecgvf import write_ecgvf_benchmark
    from efface.ops.training.progress import terminal_progress

    written = write_ecgvf_benchmark(
        concept, out=out, model=model, benchmark=benchmark, count=count, endpoint=endpoint,
        language_model=language_model, overwrite=overwrite, progress=terminal_progress(),
    )  # fmt: skip
    from efface.benchmarks.benchmark_fields import benchmark_fields

    usage = f"then: efface evaluate ERASURE --benchmark {out}"
    print_result(benchmark_fields(written.benchmark), f"{written.summary()}\n{usage}", as_json)
