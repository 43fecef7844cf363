"""The table of pocket-lm-sae: Matryoshka and plain batch-TopK autoencoders of equal size, measured alike."""

from __future__ import annotations

import json

from result_tables import table

from efface.models.autoencoder import BUNDLED

HEAD = ("states", "autoencoder", "unexplained variance", "L0", "dead features", "absorption", "features per kind")
ABLATION_HEAD = ("states", "autoencoder", "measure", "attribute")


def autoencoder_tables() -> str:
    """Reconstruction, sparsity and absorption; then TPP and SCR by number of ablated features."""
    rows = json.loads((BUNDLED["pocket-lm"] / "measures.json").read_text())
    first = [
        [
            f"{row['site']}, layer {row['layer']}", row["kind"], f"{row['unexplained']:.3f}", f"{row['l0']:.1f}",
            f"{row['dead']:.1%}", f"{row['absorption']:.3f}", f"{row['split']:.1f}",
        ]
        for row in rows
    ]  # fmt: skip
    counts = list(rows[0]["tpp"]["kind"])
    second = [
        [
            f"{row['site']}, layer {row['layer']}", row["kind"], measure.upper(), attribute,
            *(f"{row[measure][attribute][count]:.2f}" for count in counts),
        ]
        for measure in ("tpp", "scr")
        for row in rows
        for attribute in row[measure]
    ]  # fmt: skip
    ablated = [f"{count} features" for count in counts]
    return "\n".join([*table(HEAD, first), "", *table([*ABLATION_HEAD, *ablated], second)])
