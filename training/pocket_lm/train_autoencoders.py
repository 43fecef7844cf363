"""Trains pocket-lm-sae: ``python training/pocket_lm/train_autoencoders.py --out pocket-lm-sae-run``; resumes.

Autoencoders read pocket-lm's MLP outputs and residual stream. Matryoshka ones are written to ``pocket-lm-sae``, plain
batch-TopK ones of equal size, for comparison, to ``plain``; both in the layout of SAELens.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

if not __package__:  # run as a script: this folder's modules must not hide those of training/pocket
    TRAINING = Path(__file__).resolve().parents[1]
    sys.path[:1] = [str(TRAINING), str(TRAINING / "pocket")]

import torch
import typer
from safetensors.torch import save_file
from torch import Tensor

from common import Checkpoint, save_json, step_rng, train
from efface.models.causal_lm import CausalLM, TextTokens
from efface.models.loading import load_model
from pocket_lm.autoencoder_stack import AutoencoderStack, layer_norm
from pocket_lm.train import batch

SIZE, SPARSITY, ROWS, TOKENS = 512, 12, 8, 768
NESTED = (32, 64, 128, 256, 512)
MATRYOSHKA = (*(("mlp_out", layer) for layer in range(5)), *(("resid_post", layer) for layer in range(4)))
PLAIN = (("resid_post", 1), ("mlp_out", 1))
WARM_UP, DECAY_SHARE = 50, 0.25


@torch.no_grad()
def states(model: CausalLM, ids: Tensor, generator: torch.Generator) -> dict[tuple[str, int], Tensor]:
    """Returns the normalized states of random tokens by site and layer, each ``(TOKENS, D)``; none of ``<s>``."""
    tokens = TextTokens(ids, torch.ones_like(ids))
    outputs, behind = model.layer_states(tokens, range(model.num_layers))
    every = {"mlp_out": outputs, "resid_post": behind}
    places = (ids.flatten() != model.tokenizer.bos_token_id).nonzero()[:, 0]
    chosen = places[torch.randperm(len(places), generator=generator)[:TOKENS]]
    keys = {*MATRYOSHKA, *PLAIN}
    return {(site, layer): layer_norm(every[site][layer].flatten(0, 1)[chosen]) for site, layer in keys}


def save(stack: AutoencoderStack, index: int, folder: Path, site: str, layer: int) -> None:
    """Writes an autoencoder as SAELens does: settings and weights in half precision, with a JumpReLU threshold."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {
        "W_enc": stack.encoder[index],
        "b_enc": stack.encoder_bias[index],
        "W_dec": stack.decoder[index],
        "b_dec": stack.decoder_bias[index],
        "threshold": stack.threshold[index].expand(SIZE),
    }
    save_file({name: t.detach().half().contiguous() for name, t in tensors.items()}, folder / "sae_weights.safetensors")
    settings = {"d_in": stack.decoder.shape[-1], "d_sae": SIZE, "dtype": "float16", "architecture": "jumprelu"}
    metadata = {"model_name": "pocket-lm", "hook_name": f"blocks.{layer}.hook_{site}"}
    settings |= {"apply_b_dec_to_input": True, "normalize_activations": "layer_norm"}
    save_json(folder / "cfg.json", settings | {"matryoshka_widths": list(stack.levels[index]), "metadata": metadata})


def main(
    out: Annotated[Path, typer.Option(help="Folder of the run.")] = Path("pocket-lm-sae-run"),
    steps: Annotated[int, typer.Option(help="Number of steps.")] = 800,
    lr: Annotated[float, typer.Option(help="Maximum learning rate.")] = 3e-3,
    seed: Annotated[int, typer.Option(help="Seed of weights and texts.")] = 31,
) -> None:
    """Trains all autoencoders side by side and writes them."""
    torch.set_num_threads(1)
    model: CausalLM = load_model("pocket-lm")  # type: ignore[assignment]
    width = model.neuron_outputs(0).shape[-1]
    sites = [*MATRYOSHKA, *PLAIN]
    stack = AutoencoderStack([NESTED] * len(MATRYOSHKA) + [(SIZE,)] * len(PLAIN), width, SPARSITY, seed)
    optimiser = torch.optim.Adam(stack.parameters(), lr=lr, betas=(0.9, 0.99))
    checkpoint = Checkpoint(out, stack=stack, optimiser=optimiser)

    def one_step(step: int) -> dict[str, float]:
        rate = min((step + 1) / WARM_UP, max((steps - step) / (DECAY_SHARE * steps), 0.02), 1.0)
        optimiser.param_groups[0]["lr"] = lr * rate
        rng = step_rng(seed, step)
        inputs = states(
            model, batch(model.tokenizer, rng)[:ROWS], torch.Generator().manual_seed(int(rng.integers(2**31)))
        )
        optimiser.zero_grad()
        lost: dict[str, list[float]] = {"mlp_out": [], "resid_post": [], "plain": []}
        for index, key in enumerate(sites):
            loss, unexplained = stack.loss(index, inputs[key])
            loss.backward()
            lost[key[0] if index < len(MATRYOSHKA) else "plain"].append(float(unexplained))
        optimiser.step()
        stack.normalize_decoder()
        return {name: sum(values) / len(values) for name, values in lost.items()} | {"dead": stack.dead_share}

    def write() -> None:
        for index, (site, layer) in enumerate(sites):
            kind = "pocket-lm-sae" if index < len(MATRYOSHKA) else "plain"
            save(stack, index, out / kind / f"{site}-{layer}", site, layer)

    train("pocket-lm-sae", steps, checkpoint, one_step, at_checkpoint=write, every=100)
    write()
    checkpoint.history.write(out / "history.json", steps=steps, batch=TOKENS, seed=seed)


if __name__ == "__main__":
    typer.run(main)
