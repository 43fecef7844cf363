"""The adapter of causal language models: logits, hidden states by layer, output rows of the MLPs, and text."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from efface.core.errors import EffaceError
from efface.core.manifest import LANGUAGE_COMPONENT as COMPONENT
from efface.core.policy import check_prompts

from .fingerprint import fingerprint
from .guidance_hooks import GuidanceEdit, LatentEdit
from .language_generation import Combine, generate_ids
from .language_layers import decoder_layers, mlp_output, neuron_rows, select_role
from .parameter_groups import ParameterGroup, call_with_params

FAMILY = "causal_lm"


@dataclass(frozen=True)
class TextTokens:
    """Token ids of texts, padded on one side.

    Attributes:
        ids: ``(B, L)``.
        mask: 1 for tokens, 0 for padding, ``(B, L)``.
    """

    ids: Tensor
    mask: Tensor


class CausalLM:
    """A causal language model and its tokenizer.

    It has no image, no prompt conditioning and no denoiser: methods and attacks for language models call `logits`,
    `hidden_states` and `neuron_outputs`; everything else is text.

    Args:
        module: a transformers model such as ``LlamaForCausalLM``, in evaluation mode from here on.
        tokenizer: its tokenizer.
        name: the model's name in results.
    """

    family = FAMILY

    def __init__(self, module: nn.Module, tokenizer: Any, name: str) -> None:
        self.module: Any = module.eval().requires_grad_(False)
        self.tokenizer, self.name = tokenizer, name
        self.components: dict[str, nn.Module] = {COMPONENT: module}
        self.guidance_edits: list[GuidanceEdit] = []
        self.latent_edits: list[LatentEdit] = []
        if tokenizer.pad_token_id is None:
            tokenizer.pad_token = tokenizer.eos_token
        if tokenizer.pad_token_id is None:
            raise EffaceError(f"the tokenizer of {name} has neither a pad nor an end token: set tokenizer.pad_token")
        self.num_layers = len(decoder_layers(module)[1])

    @property
    def device(self) -> torch.device:
        """The device that the first parameter is on."""
        return next(self.module.parameters()).device

    @property
    def end(self) -> int | None:
        """Id of the token that ends a text."""
        return self.tokenizer.eos_token_id  # type: ignore[no-any-return]

    def fingerprint(self) -> dict[str, dict[str, Any]]:
        """Returns the fingerprint of the model."""
        return {COMPONENT: fingerprint(self.module)}

    def parameter_group(self, role: str) -> ParameterGroup:
        """Returns the parameters of a role, such as ``attn_mlp:4-7`` (`efface.models.language_layers.ROLES`)."""
        return select_role(self.module, role)

    def tokenize(self, texts: Sequence[str], *, left: bool = False, max_length: int | None = None) -> TextTokens:
        """Tokenizes texts that the content policy allows; pads on the right, or on the left for generation."""
        check_prompts(texts)
        rows = [self.tokenizer(text).input_ids[:max_length] for text in texts]
        return self.pad(rows, left=left)

    def pad(self, rows: Sequence[Sequence[int]], *, left: bool = False) -> TextTokens:
        """Pads rows of token ids to one length."""
        width, pad = max(map(len, rows)), int(self.tokenizer.pad_token_id)
        ids = torch.full((len(rows), width), pad)
        mask = torch.zeros_like(ids)
        for i, row in enumerate(rows):
            place = slice(width - len(row), width) if left else slice(0, len(row))
            ids[i, place], mask[i, place] = torch.tensor(row, dtype=ids.dtype), 1
        return TextTokens(ids.to(self.device), mask.to(self.device))

    def detokenize(self, ids: Sequence[int] | Tensor) -> str:
        """Converts token ids to text without special tokens."""
        return str(self.tokenizer.decode(ids, skip_special_tokens=True)).strip()

    def logits(self, tokens: TextTokens, *, params: Mapping[str, Tensor] | None = None) -> Tensor:
        """Returns the logits of the next token at every position, ``(B, L, V)``, differentiably.

        Args:
            tokens: texts padded on the right.
            params: tensors that replace the model's own, by their own name.
        """
        options = {"input_ids": tokens.ids, "attention_mask": tokens.mask, "use_cache": False}
        return call_with_params(self.module, params or {}, **options).logits  # type: ignore[no-any-return]

    def hidden_states(
        self, tokens: TextTokens, layers: Collection[int], *, params: Mapping[str, Tensor] | None = None
    ) -> dict[int, Tensor]:
        """Returns the residual stream behind layers, each ``(B, L, D)``, differentiably."""
        with self._captured({layer: self.layer(layer) for layer in layers}) as states:
            self.logits(tokens, params=params)
        return states

    def mlp_outputs(self, tokens: TextTokens, layers: Collection[int]) -> dict[int, Tensor]:
        """Returns the outputs of the MLPs of layers, each ``(B, L, D)``."""
        with self._captured({layer: mlp_output(self.layer(layer)) for layer in layers}) as states:
            self.logits(tokens)
        return states

    @torch.no_grad()
    def neuron_activations(self, tokens: TextTokens, layers: Collection[int]) -> dict[int, Tensor]:
        """Returns the activations of the MLPs' neurons, by which `neuron_outputs` are weighted, ``(B, L, d_mlp)``."""
        with self._captured({layer: mlp_output(self.layer(layer)) for layer in layers}, inputs=True) as states:
            self.logits(tokens)
        return states

    @torch.no_grad()
    def layer_states(self, tokens: TextTokens, layers: Collection[int]) -> tuple[dict[int, Tensor], dict[int, Tensor]]:
        """Returns the outputs of the MLPs of layers and the residual stream behind the layers, by one pass."""
        with (
            self._captured({layer: mlp_output(self.layer(layer)) for layer in layers}) as outputs,
            self._captured({layer: self.layer(layer) for layer in layers}) as behind,
        ):
            self.logits(tokens)
        return outputs, behind

    def layer(self, index: int) -> nn.Module:
        """Returns a decoder layer; raises `EffaceError` if there is none of this number."""
        return decoder_layers(self.module)[1][self.checked_layer(index)]

    def checked_layer(self, index: int) -> int:
        """Returns the number of a decoder layer; raises `EffaceError` if there is none of this number."""
        if not 0 <= index < self.num_layers:
            raise EffaceError(f"{self.name} has no layer {index}: give one from 0 to {self.num_layers - 1}")
        return index

    def neuron_outputs(self, layer: int) -> Tensor:
        """Returns the output vectors of a layer's MLP neurons, ``(d_mlp, d_model)``; a view of the weight."""
        return neuron_rows(mlp_output(self.layer(layer)))

    def generate(
        self,
        prompts: Sequence[str],
        *,
        count: int = 32,
        temperature: float = 0.0,
        generator: torch.Generator | None = None,
        combine: Combine | None = None,
    ) -> list[str]:
        """Continues prompts; returns the new text of each (see `generate_ids`)."""
        tokens = self.tokenize(prompts, left=True)
        ids = generate_ids(
            self.module, tokens.ids, tokens.mask, count=count, end=self.end, temperature=temperature,
            generator=generator, combine=combine,
        )  # fmt: skip
        return [self.detokenize(row) for row in ids]

    @contextmanager
    def _captured(self, modules: Mapping[int, nn.Module], *, inputs: bool = False) -> Iterator[dict[int, Tensor]]:
        """Collects the outputs, or the first inputs, of modules by layer while a pass runs."""
        states: dict[int, Tensor] = {}

        def keep(layer: int) -> Any:
            def hook(_module: nn.Module, given: Any, output: Any) -> None:
                kept = given if inputs else output
                states[layer] = kept[0] if isinstance(kept, tuple) else kept

            return hook

        handles = [module.register_forward_hook(keep(layer)) for layer, module in modules.items()]
        try:
            yield states
        finally:
            for handle in handles:
                handle.remove()
