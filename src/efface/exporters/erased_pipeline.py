"""A Stable Diffusion pipeline with an erasure's modules, gates and guidance, for diffusers alone.

    DiffusionPipeline.from_pretrained(folder, custom_pipeline=folder, trust_remote_code=True)

The folder is a local one: beside the weights it holds ``erasure_edits.json`` and ``erasure_tensors.safetensors``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.functional import conv2d, cosine_similarity, gelu, linear

EDITS_FILE, TENSORS_FILE = "erasure_edits.json", "erasure_tensors.safetensors"


class ErasedStableDiffusionPipeline(StableDiffusionPipeline):
    """Stable Diffusion with an erasure, which is inserted at the first image."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Generates images as `StableDiffusionPipeline` does."""
        if "_erasure" not in self.__dict__:
            self._erasure = Erasure(self, Path(self.config._name_or_path))
        return super().__call__(*args, **kwargs)

    def encode_prompt(self, prompt: Any, *args: Any, **kwargs: Any) -> Any:
        """Encodes prompts, and sets the strength of gated edits by them."""
        states, negative = super().encode_prompt(prompt, *args, **kwargs)
        if "_erasure" in self.__dict__:
            self._erasure.read_prompts(states, [prompt] if isinstance(prompt, str) else prompt)
        return states, negative


class Erasure:
    """The modules and the guidance of an erasure in a pipeline.

    Args:
        pipe: the pipeline.
        folder: its folder.
    """

    def __init__(self, pipe: Any, folder: Path) -> None:
        if not (folder / EDITS_FILE).is_file():
            raise FileNotFoundError(f"{folder / EDITS_FILE} is missing: load the pipeline from its local folder")
        self.pipe = pipe
        self.edits: list[dict[str, Any]] = json.loads((folder / EDITS_FILE).read_text(encoding="utf-8"))
        self.strengths, self.limits = dict[int, Tensor](), dict[int, Tensor]()
        self.off: frozenset[str] | None = None
        self._insert(load_file(folder / TENSORS_FILE))

    def _insert(self, stored: Mapping[str, Tensor]) -> None:
        members: dict[tuple[str, str], list[Any]] = {}
        for index, edit in enumerate(self.edits):
            for path, names in edit["layers"].items():
                tensors = {end: stored[name].to(self.pipe.device) for end, name in names.items()}
                members.setdefault((edit["component"], path), []).append((index, tensors))
        for (component, path), own in members.items():
            layers = getattr(self.pipe, component).named_modules()  # transformers renames the levels above
            layer = next(layer for name, layer in layers if f".{name}".endswith(f".{path}"))
            change = self._deactivate if component == "text_encoder" else self._change
            layer.register_forward_hook(partial(change, own))
        if any(edit["params"].get("rule") == "unguide" for edit in self.edits):
            self.pipe.unet.register_forward_hook(self._mix, with_kwargs=True)

    @torch.no_grad()
    def read_prompts(self, states: Tensor, prompts: Sequence[str] | None) -> None:
        """Computes the strength of each gated edit for prompts with these states ``(B, L, D)``."""
        texts = None if not prompts else [prompts[row * len(prompts) // len(states)] for row in range(len(states))]
        strengths = self._similarities(states, texts)
        for index, edit in enumerate(self.edits):
            if edit["gate"].get("kind") == "prediction_change":
                strengths[index] = self._opens(index, states, strengths)
        self.strengths = strengths

    def _encode(self, texts: Sequence[str]) -> tuple[Tensor, list[set[int]]]:
        """Returns the states of texts, and their tokens without special ones."""
        tokenizer = self.pipe.tokenizer
        options = {"padding": "max_length", "max_length": tokenizer.model_max_length, "truncation": True}
        ids = tokenizer(list(texts), return_tensors="pt", **options).input_ids.to(self.pipe.device)
        special = set(tokenizer([""], **options).input_ids[0])
        return self.pipe.text_encoder(ids)[0], [set(row) - special for row in ids.tolist()]

    def _similarities(self, states: Tensor, texts: Sequence[str] | None) -> dict[int, Tensor]:
        """SPM's facilitated transport: the larger of the cosine to a phrase and the share of its tokens."""
        found: dict[int, Tensor] = {}
        tokens = [set[int]() for _ in states] if texts is None else self._encode(texts)[1]
        for index, edit in enumerate(self.edits):
            gate = edit["gate"]
            if gate.get("kind") == "similarity":
                erased, phrases = self._encode(gate["phrases"])
                cosines = cosine_similarity(states.flatten(1)[:, None].float(), erased.flatten(1)[None].float(), dim=-1)
                cosines = ((cosines - gate["floor"]) / (1 - gate["floor"])).clamp(min=0)
                overlaps = [[len(own & phrase) / max(1, len(phrase)) for phrase in phrases] for own in tokens]
                found[index] = gate["factor"] * torch.maximum(cosines, torch.tensor(overlaps).to(cosines)).amax(1)
        return found

    def _opens(self, index: int, states: Tensor, strengths: Mapping[int, Tensor]) -> Tensor:
        """UnGuide's decision: 1 where the adapter changes the prediction by more than for the empty prompt."""
        gate, empty = self.edits[index]["gate"], self._encode([""])[0].to(states)
        if index not in self.limits:
            self.strengths = self._similarities(empty, [""])
            self.limits[index] = gate["threshold"] * self._prediction_change(gate, empty, empty)
        changes = []
        for row in range(len(states)):
            self.strengths = {other: strength[row : row + 1] for other, strength in strengths.items()}
            changes.append(self._prediction_change(gate, states[row : row + 1], empty))
        return (torch.stack(changes) > self.limits[index]).to(states)

    def _prediction_change(self, gate: Mapping[str, Any], states: Tensor, empty: Tensor) -> Tensor:
        """Mean norm of the adapter's change at latents that the model without it has denoised for some steps."""
        unet, side = self.pipe.unet, self.pipe.unet.config.sample_size
        scheduler = DDIMScheduler.from_config(self.pipe.scheduler.config)
        scheduler.set_timesteps(gate["num_inference_steps"])
        shape, seeds = (unet.config.in_channels, side, side), range(gate["seed"], gate["seed"] + gate["repeats"])
        noise = [torch.randn(shape, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
        z = torch.stack(noise).to(states)
        both = torch.cat([empty.expand(len(z), -1, -1), states.expand(len(z), -1, -1)])
        with self._adapters_off(frozenset({gate["adapter"]})):
            for t in scheduler.timesteps[: gate["num_steps"]]:
                u, c = unet(torch.cat([z, z]), t, encoder_hidden_states=both)[0].chunk(2)
                z = scheduler.step(u + gate["guidance_scale"] * (c - u), t, z).prev_sample
            t = scheduler.timesteps[gate["num_steps"]]
            base = unet(z, t, encoder_hidden_states=both[len(z) :])[0]
        with self._adapters_off(frozenset()):
            own = unet(z, t, encoder_hidden_states=both[len(z) :])[0]
        return (own - base).flatten(1).norm(dim=1).mean()  # type: ignore[no-any-return]

    @contextmanager
    def _adapters_off(self, adapters: frozenset[str]) -> Iterator[None]:
        """Predicts without some adapters, and without guidance."""
        self.off, before = adapters, self.off
        try:
            yield
        finally:
            self.off = before

    def _gamma(self, index: int, like: Tensor) -> Tensor:
        """Strength of an edit for each row of a batch, ``(N, 1, ...)``."""
        is_on = not (self.off and self.edits[index]["params"].get("adapter") in self.off)
        strength = is_on * self.strengths.get(index, like.new_ones(1)).to(like)
        return strength.repeat(len(like) // len(strength)).view(-1, *[1] * (like.ndim - 1))

    def _change(self, members: Any, layer: nn.Module, args: Any, output: Tensor) -> Tensor:
        """Adds the membranes and erasers at a layer of the UNet."""
        changed = output
        for index, tensors in members:
            own, params = {end: tensor.to(output) for end, tensor in tensors.items()}, self.edits[index]["params"]
            if params["kind"] == "eraser":
                hidden = gelu(linear(output, own["down.weight"], own["down.bias"]))
                added = linear(hidden, own["up.weight"], own["up.bias"])
            else:
                added = membrane(layer, args[0], own["down"], params.get("scale", 1.0) * own["up"].flatten(1))
            changed = changed + self._gamma(index, output) * added
        return changed

    def _deactivate(self, members: Any, _layer: nn.Module, _args: Any, output: Any) -> Any:
        """Scales features of an autoencoder behind a layer of the text encoder (ItD)."""
        states = output[0] if isinstance(output, tuple) else output
        for index, tensors in members:
            t = {end: tensor if end == "features" else tensor.to(states) for end, tensor in tensors.items()}
            params = self.edits[index]["params"]
            activations = linear(states - t["decoder_bias"], t["encoder"], t["encoder_bias"])
            top, chosen = activations.topk(params["active"], dim=-1)
            features = torch.zeros_like(activations).scatter(-1, chosen, top.relu())
            features[..., t["features"].long()] *= params["strength"]
            new = torch.cat([states[:, :1], linear(features, t["decoder"], t["decoder_bias"])[:, 1:]], dim=1)
            is_target = (new - states)[:, 1:].float().square().mean((1, 2)) >= params["threshold"]
            states = torch.where(is_target[:, None, None], new, states)
        return (states, *output[1:]) if isinstance(output, tuple) else states

    def _mix(self, unet: nn.Module, args: Any, kwargs: Any, output: Any) -> Any:
        """UnGuidance: e + w (e* - e) with predictions e with and e* without the adapter."""
        if self.off is not None:
            return None
        own = mixed = output[0]
        for index, edit in enumerate(self.edits):
            if edit["params"].get("rule") == "unguide":
                concept, other = edit["params"]["concept_weight"], edit["params"]["other_weight"]
                with self._adapters_off(frozenset({edit["params"]["adapter"]})):
                    base = unet(*args, **kwargs)[0]
                mixed = mixed + (other + (concept - other) * self._gamma(index, own)) * (base - own)
        return (mixed,) if isinstance(output, tuple) else type(output)(mixed)


def membrane(layer: Any, x: Tensor, down: Tensor, up: Tensor) -> Tensor:
    """Applies a membrane's factors to a layer's input."""
    if isinstance(layer, nn.Conv2d):
        kernel = down.view(-1, *layer.weight.shape[1:])
        hidden = conv2d(x, kernel, None, layer.stride, layer.padding, layer.dilation)  # type: ignore[arg-type]
        return conv2d(hidden, up[:, :, None, None])
    return linear(linear(x, down.flatten(1)), up)
