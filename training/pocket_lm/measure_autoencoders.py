"""Measures pocket-lm-sae beside plain autoencoders: ``python training/pocket_lm/measure_autoencoders.py --run RUN``.

RUN is the folder of `train_autoencoders.py`. The numbers are written beside the shipped weights.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import Annotated, Any

if not __package__:
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import torch
import typer
from torch import Tensor

from efface.core.io import atomic_write_text
from efface.core.serialization import json_bytes
from efface.models.autoencoder import Autoencoder, load_autoencoder
from efface.models.causal_lm import CausalLM
from efface.models.loading import load_model
from efface.pocket_world.facts import Fact, load_facts
from pocket_lm.autoencoder_measures import absorption, spurious_correlation_removal, targeted_perturbation
from pocket_lm.sentences import pick, sample_name, statement

OUT = Path(__file__).resolve().parents[2] / "src/efface/models/data/pocket-lm-sae/measures.json"
PLACES = (("resid_post", 1), ("mlp_out", 1))
RELATIONS = ("use", "material", "owner", "place", "part")
KINDS = ("weapon", "tool", "vice", "vehicle", "food", "building", "plant", "instrument")
TEXTS, COUNTS, SEED = 6, (2, 5, 10, 20), 5
"""Number of sentences of an object and relation, of which every third tests; numbers of features to ablate."""


def sentences() -> list[tuple[Fact, str, str]]:
    """Returns facts, a name of their subject and a sentence: all kinds and relations alike often."""
    rng = np.random.default_rng(SEED)
    facts = [fact for fact in load_facts() if fact.group in KINDS and fact.relation in RELATIONS]
    rows = []
    for fact in facts:
        for _ in range(TEXTS):
            name = sample_name(fact, rng)
            rows.append((fact, name, f"{statement(fact, rng, name)}."))
    return [rows[i] for i in rng.permutation(len(rows))]


@torch.no_grad()
def mean_states(model: CausalLM, texts: Sequence[str], site: str, layer: int, *, last: bool = False) -> Tensor:
    """Returns the mean state of each text's tokens, or that of its last one, ``(N, D)``."""
    parts = []
    for start in range(0, len(texts), 64):
        tokens = model.tokenize(texts[start : start + 64])
        outputs, behind = model.layer_states(tokens, [layer])
        states = (outputs if site == "mlp_out" else behind)[layer].float()
        weights = tokens.mask.clone().float()
        weights[:, 0] = 0  # <s>, whose norm is an outlier
        if last:
            weights = torch.nn.functional.one_hot(tokens.mask.sum(1) - 1, weights.shape[1]).float()
        parts.append((states * weights[..., None]).sum(1) / weights.sum(1, keepdim=True))
    return torch.cat(parts)


@torch.no_grad()
def quality(model: CausalLM, item: Autoencoder, texts: Sequence[str]) -> dict[str, float]:
    """Returns reconstruction, L0 and the share of dead features on all tokens of texts."""
    tokens = model.tokenize(texts)
    outputs, behind = model.layer_states(tokens, [item.layer])
    states = (outputs if item.site == "mlp_out" else behind)[item.layer].float()
    states = states[:, 1:][tokens.mask[:, 1:].bool()]
    acts, error = item.encode(states), states - item.reconstruct(states)
    unexplained = error.square().sum() / (states - states.mean(0)).square().sum()
    dead = (acts > 0).sum(0) == 0
    return {"unexplained": float(unexplained), "l0": float((acts > 0).sum(1).float().mean()),
            "dead": float(dead.float().mean())}  # fmt: skip


def attribute_measures(model: CausalLM, item: Autoencoder) -> dict[str, Any]:
    """Returns absorption, TPP and SCR of an autoencoder on kinds and relations."""
    rows = sentences()
    is_test = torch.arange(len(rows)) % 3 == 0
    kinds = torch.tensor([KINDS.index(fact.group) for fact, _, _ in rows])
    relations = torch.tensor([RELATIONS.index(fact.relation) for fact, _, _ in rows])
    states = mean_states(model, [text for _, _, text in rows], item.site, item.layer)
    names = mean_states(model, [name for _, name, _ in rows], item.site, item.layer, last=True)
    rates = [
        absorption(item, (names[~is_test], kinds[~is_test] == i), (names[is_test], kinds[is_test] == i))
        for i in range(len(KINDS))
    ]
    known = [rate for rate, _ in rates if rate is not None]
    tpp = {
        name: targeted_perturbation(
            item, (states[~is_test], labels[~is_test]), (states[is_test], labels[is_test]), COUNTS
        )
        for name, labels in (("kind", kinds), ("relation", relations))
    }
    scr = _correlations(item, states, kinds, relations, is_test)
    split = float(np.mean([number for _, number in rates]))
    return {"absorption": float(np.mean(known)), "split": split, "tpp": tpp, "scr": scr}


def _correlations(
    item: Autoencoder, states: Tensor, kinds: Tensor, relations: Tensor, is_test: Tensor
) -> dict[str, dict[int, float]]:
    """Returns the mean SCR over pairs of kinds, each with a pair of relations, by the attribute that is wanted."""
    found: dict[str, list[dict[int, float]]] = {"kind": [], "relation": []}
    rng, pairs = np.random.default_rng(SEED), list(combinations(range(len(RELATIONS)), 2))
    for a, b in combinations(range(len(KINDS)), 2):
        c, d = pick(rng, pairs)
        inside = ((kinds == a) | (kinds == b)) & ((relations == c) | (relations == d))
        labels = {"kind": kinds == a, "relation": relations == c}
        train, test = inside & ~is_test, inside & is_test
        for wanted, spurious in (("kind", "relation"), ("relation", "kind")):
            agree = train & (labels[wanted] == labels[spurious])
            regained = spurious_correlation_removal(
                item, (states[agree], labels[wanted][agree]),
                (states[train], labels[wanted][train], labels[spurious][train]),
                (states[test], labels[wanted][test]), COUNTS,
            )  # fmt: skip
            found[wanted] += [regained] if regained else []
    return {
        name: {count: float(np.mean([row[count] for row in rows])) for count in COUNTS}
        for name, rows in found.items()
        if rows
    }


def main(run: Annotated[Path, typer.Option(help="Folder of the trained autoencoders.")]) -> None:
    """Measures every pair of autoencoders and writes the numbers."""
    torch.set_num_threads(1)
    model: CausalLM = load_model("pocket-lm")  # type: ignore[assignment]
    texts = [text for _, _, text in sentences()]
    found: list[dict[str, Any]] = []
    for site, layer in PLACES:
        for kind, folder in (("Matryoshka", "pocket-lm-sae"), ("plain", "plain")):
            item = load_autoencoder(run / folder / f"{site}-{layer}", model)
            row = {"site": site, "layer": layer, "kind": kind, "features": item.num_features, "texts": len(texts)}
            found.append(row | quality(model, item, texts) | attribute_measures(model, item))
            print(found[-1], flush=True)
    atomic_write_text(OUT, json_bytes(found).decode())


if __name__ == "__main__":
    typer.run(main)
