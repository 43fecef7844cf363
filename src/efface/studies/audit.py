"""An audit of somebody else's edited checkpoint: what changed, whether the concept is gone, and whether it stays so.

The changes become an erasure of the base model, so that attacks, benchmark and report work as for efface's own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from efface import api
from efface.api.validation import validate_output_dir
from efface.benchmarks.benchmark import Benchmark, benchmark_names, find_benchmark
from efface.core.concept import Concept
from efface.core.erasure import Erasure
from efface.core.errors import EffaceError
from efface.core.io import atomic_write_json
from efface.core.manifest import EVIDENCE
from efface.core.registry import ATTACKS
from efface.core.result import Result
from efface.core.serialization import to_jsonable
from efface.core.spec import RunSpec
from efface.core.text_fields import fold_case
from efface.models.loading import load_model
from efface.models.model_ref import ModelRef, locate_model, model_name

if TYPE_CHECKING:
    from efface.models.editable import EditableModel
    from efface.ops.training.progress import Progress

    from .tensor_changes import TensorChange

METHOD = "audit"
"""In place of a method's name in the erasure that an audit saves."""
CHANGES = "tensor_changes.json"


@dataclass(frozen=True)
class Audit:
    """The outcome of an audit.

    Attributes:
        folder: folder of the erasure with all evidence.
        report: the HTML report.
        changes: changed tensors, the largest relative change first.
        result: scores and verdict, attacks included.
    """

    folder: Path
    report: Path
    changes: list[TensorChange]
    result: Result


def audit(
    model: str | Path, base: str | Path | ModelRef, concept: str, *, out: Path, benchmark: str | None = None,
    attacks: Sequence[str] = ("synonyms", "inside_out"), limit: int | None = None, progress: Progress | None = None,
    on_changes: Callable[[list[TensorChange]], None] | None = None,
) -> Audit:  # fmt: skip
    """Compares an edited checkpoint with its base, attacks it, evaluates it, and writes one report.

    Args:
        model: the edited checkpoint: a folder in diffusers layout, a single file, or a LoRA's file.
        base: the model that it was made from; the checkpoint is loaded on the same device in the same precision.
        concept: name of the concept that it is said to lack.
        out: folder to write.
        benchmark: benchmark by name or file; by default the one of base and concept.
        attacks: names of the attacks.
        limit: maximum number of prompts of an attack and of images per group.
        progress: progress display.
        on_changes: called with the changed tensors before images are generated.

    Raises:
        EffaceError: an unknown model, attack or benchmark, another architecture, or no difference.
    """
    for attack in attacks:
        ATTACKS.card(attack)
    validate_output_dir(out)
    base = base if isinstance(base, ModelRef) else ModelRef(base)
    chosen = _find_benchmark(benchmark, model_name(base), concept)
    is_lora = _is_lora(Path(model))
    if not is_lora:
        locate_model(model)  # refuses unknown names before the base is loaded
    loaded = load_model(base)
    edited = _with_lora(base, Path(model)) if is_lora else load_model(_loaded_like(base, model, loaded))
    erasure, changes = _as_erasure(loaded, edited, str(model), chosen.concept)
    erasure.save(out)
    atomic_write_json(out / EVIDENCE / CHANGES, [to_jsonable(change) for change in changes])
    if on_changes is not None:
        on_changes(changes)
    for attack in attacks:
        api.attack(out, attack, benchmark or chosen.name, model=loaded, limit=limit, progress=progress)
    result = api.evaluate(out, benchmark or chosen.name, model=loaded, limit=limit, progress=progress)
    return Audit(out, api.report(out), changes, result)


def _loaded_like(base: str | Path | ModelRef, model: str | Path, loaded: EditableModel) -> ModelRef:
    """Returns the checkpoint with the base's device and precision; a single file also has its configuration."""
    ref = base if isinstance(base, ModelRef) else ModelRef(base)
    config: str | Path | None = None
    if Path(model).is_file() and ref.ref is not None:
        source = locate_model(ref.ref)
        config = source.path if source.kind == "folder" else ref.config
    return ModelRef(model, loaded.device, ref.dtype, None, config, ref.offload)


def _find_benchmark(ref: str | None, base: str, concept: str) -> Benchmark:
    found = Benchmark.load(ref) if ref is not None else find_benchmark(base, concept)
    if found is None:
        raise EffaceError(
            f"no benchmark for {concept!r} on {base}: write one with `efface benchmarks new`, or name one of "
            f"{', '.join(benchmark_names())} (--benchmark)"
        )
    if fold_case(found.concept.name) != fold_case(concept):
        raise EffaceError(f"{found.name} measures {found.concept.name!r}, not {concept!r}: choose another --benchmark")
    return found


def _as_erasure(
    base: EditableModel, edited: EditableModel, source: str, concept: Concept
) -> tuple[Erasure, list[TensorChange]]:
    """Returns the changes of the edited model as an erasure of the base, and their measures."""
    from .tensor_changes import changed_tensors, measure_changes, to_edits

    changed = changed_tensors(base, edited)
    edits, tensors = to_edits(changed)
    config: dict[str, Any] = {"model": source, "changed_tensors": len(tensors)}
    spec = RunSpec(base.name, base.fingerprint(), METHOD, config, (concept,), preset="")
    return Erasure(spec, tuple(edits), tensors), measure_changes(base, changed)


def _is_lora(path: Path) -> bool:
    """Returns whether a file is a LoRA, by the names of its tensors."""
    if path.suffix.lower() != ".safetensors" or not path.is_file():
        return False
    from efface.core.tensors import TensorFile

    return all("lora" in name.lower() or name.endswith(("alpha", "dora_scale")) for name in TensorFile(path))


def _with_lora(base: str | Path | ModelRef, path: Path) -> EditableModel:
    """Loads the base again and fuses the LoRA into its weights.

    Raises:
        EffaceError: peft is missing, or the LoRA belongs to another architecture.
    """
    model = load_model(base)
    try:
        model.pipe.load_lora_weights(str(path.parent), weight_name=path.name)
        model.pipe.fuse_lora()
        model.pipe.unload_lora_weights()
    except (ImportError, ValueError, RuntimeError, KeyError) as error:
        cause = " ".join(str(error).split())[:200]
        raise EffaceError(f"the LoRA {path} does not fit {model.name}: {cause}") from error
    return load_model(model.pipe)
