"""Exports an erasure of a language model: the edited model with its tokenizer as a folder for transformers."""

from __future__ import annotations

from pathlib import Path

from efface.core.concept_names import concept_names
from efface.core.erasure import Erasure
from efface.core.errors import EffaceError
from efface.core.io import atomic_folder, user_file_errors
from efface.core.manifest import README
from efface.core.serialization import json_bytes, to_jsonable
from efface.models.causal_lm import CausalLM
from efface.models.pipeline import silence_libraries
from efface.ops.editing.apply import applied

from .formats import EXPORT_MANIFEST, Exported


def write_language_export(
    model: CausalLM, erasure: Erasure, out: Path, allow_base_mismatch: bool, overwrite: bool
) -> Exported:
    """Writes the edited model, its tokenizer, a README and the erasure's manifest; the model itself is restored.

    Raises:
        EffaceError: an edit that acts on hidden states, which no folder of weights holds, or another base model.
    """
    if held := [edit.op for edit in erasure.edits if edit.op not in ("replace", "low_rank")]:
        raise EffaceError(
            f"the {held[0]} edit of {erasure.spec.method} acts on hidden states: "
            "it cannot be exported, only applied by efface"
        )
    with atomic_folder(out, replace=overwrite) as new, user_file_errors(out), silence_libraries():
        with applied(model, erasure, allow_base_mismatch) as record:
            model.module.save_pretrained(new)
            model.tokenizer.save_pretrained(new)
        names = concept_names(erasure.concepts)
        text = f"# {erasure.spec.model} without {names}\n\nErased by {erasure.spec.method} with efface.\n\n"
        text += "`AutoModelForCausalLM.from_pretrained(folder)` loads it.\n"
        (new / README).write_text(text, encoding="utf-8")
        manifest = {"schema": 1, "format": "transformers", "erasure": erasure.spec.to_dict()}
        (new / EXPORT_MANIFEST).write_bytes(json_bytes(to_jsonable(manifest)))
        files = {path.relative_to(new).as_posix(): path.stat().st_size for path in new.rglob("*") if path.is_file()}
    return Exported(out, "transformers", files, record.distances, record.base_mismatch)
