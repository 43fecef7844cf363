"""The adapter for Sana: a language model as the text encoder, a linear transformer, a deep autoencoder, flow matching.

Sana (Xie et al. 2024, arXiv 2410.10629) reads Gemma's states in cross-attention, with a mask of the prompt's tokens,
and has no pooled state. The adapter reads prompts as they are, without the instruction that the pipeline puts before
them (there, ``complex_human_instruction=None``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from diffusers import DPMSolverMultistepScheduler, FlowMatchEulerDiscreteScheduler
from torch import Tensor, nn

from .conditioning import Tokens
from .diffusers_folder import check_components
from .float32_weights import WeightSource
from .flow_model import FlowModel
from .flow_prompt_encoder import WORD_START
from .flow_sampling import check_flow_scheduler
from .module_checks import check_not_offloaded, check_one_precision
from .parameter_groups import call_with_params
from .patched_latents import PatchedLatents
from .prompt_encoder import token_rows
from .protocol import Conditioning, Params, Prediction
from .soft_prompt import SoftTokens
from .text_encoder import TextEncoder, run_encoder

MAX_LENGTH = 300
"""Number of tokens of a prompt: the pipeline's default."""


class SanaModel(PatchedLatents, FlowModel):
    """A diffusers ``SanaPipeline`` behind the model protocol.

    Args:
        pipe: the pipeline; its components are used in place, never copied.
        name: the model's name in results.
        weight_source: the files that the weights came from; None for a pipeline in memory.

    Raises:
        EffaceError: a component is missing, weights are offloaded or precisions differ.
    """

    family = "sana"
    guided_by_pairs = True
    text_tokens_first = False
    t5 = None

    def __init__(self, pipe: Any, name: str, weight_source: WeightSource | None = None) -> None:
        present = {part: module for part, module in pipe.components.items() if module is not None}
        check_components(present, "SanaPipeline", "the pipeline")
        modules = {part: module for part, module in present.items() if isinstance(module, nn.Module)}
        check_not_offloaded(modules)
        check_one_precision(modules)
        pipe.set_progress_bar_config(disable=True)
        self.name, self.weight_source, self.pipe = name, weight_source, pipe
        self.transformer, self.vae = pipe.transformer, pipe.vae
        self.scheduler = check_flow_scheduler(_to_euler(pipe.scheduler))
        self.encoders = (TextEncoder("text_encoder", pipe.tokenizer, pipe.text_encoder),)
        self.components = {part: modules[part] for part in ("text_encoder", "transformer", "vae")}
        self.guidance_edits, self.latent_edits = [], []
        self.freeze()

    @property
    def context_length(self) -> int:
        """Number of tokens of a prompt, with the special ones."""
        return min(int(self.main_encoder.tokenizer.model_max_length), MAX_LENGTH)

    @property
    def vae_scale_factor(self) -> int:
        """Pixels per latent cell along height and width."""
        return int(2 ** (len(self.vae.config.encoder_block_out_channels) - 1))

    def tokenize(self, prompts: Sequence[str]) -> Tokens:
        """Tokenizes prompts, padded to the context length; warns once when prompts are too long.

        Raises:
            ContentPolicyError: the content policy refuses a prompt.
        """
        tokens, length = super().tokenize(prompts), self.context_length
        lengths = torch.tensor([len(row) for row in token_rows(self.main_encoder.tokenizer, prompts)]).to(self.device)
        mask = torch.arange(length, device=self.device)[None] < lengths[:, None]
        return replace(tokens, mask=mask.long(), eos=lengths.clamp(max=length - 1))  # Gemma writes no end of text

    def vocabulary_words(self, *, whole_only: bool = False) -> list[str]:
        """Returns the tokens that begin a word, as sorted text; ``whole_only`` leaves out nothing."""
        vocabulary = self.main_encoder.tokenizer.get_vocab()
        words = (token.removeprefix(WORD_START) for token in vocabulary if token.startswith(WORD_START))
        return sorted(word for word in words if word)

    def encode(
        self, prompts: Sequence[str] | Tokens, *, soft: Tensor | SoftTokens | None = None, params: Params | None = None
    ) -> Conditioning:
        """Encodes prompts, differentiably; see `PromptEncoder.encode`."""
        tokens = prompts if isinstance(prompts, Tokens) else self.tokenize(prompts)
        mask = tokens.mask
        if isinstance(soft, Tensor):  # the inserted embeddings move the prompt to the right
            mask = torch.cat([mask.new_ones(len(mask), soft.shape[1]), mask], dim=1)[:, : mask.shape[1]]
        out = run_encoder(self.main_encoder, tokens.ids, soft, params, attention_mask=mask)
        states = out.last_hidden_state
        return Conditioning(states, states.new_zeros(len(states), 0), mask=mask)

    def predict(self, z: Tensor, t: Tensor | float, cond: Conditioning, *, params: Params | None = None) -> Prediction:
        """Runs the denoiser once; see `FlowModel`."""
        timestep = torch.as_tensor(t, device=z.device).expand(len(z)) * self.transformer.config.timestep_scale
        inputs: dict[str, Any] = {
            "hidden_states": z,
            "encoder_hidden_states": cond.states,
            "encoder_attention_mask": cond.mask,
            "timestep": timestep,
            "return_dict": False,
        }
        value = call_with_params(self.transformer, params or {}, **inputs)[0]
        return self.flow_prediction(value[:, : z.shape[1]], z, t)

    @property
    def _latent_shift(self) -> float:
        return 0.0

    def _encode(self, images: Tensor) -> Tensor:
        latents: Tensor = self.vae.encode(images.to(self.vae.dtype) * 2 - 1).latent
        return latents


def _to_euler(scheduler: Any) -> Any:
    """Returns Euler's scheduler on the noise levels of a DPM solver for flow matching, which published folders have."""
    if isinstance(scheduler, DPMSolverMultistepScheduler) and scheduler.config.use_flow_sigmas:
        config = scheduler.config
        return FlowMatchEulerDiscreteScheduler(config.num_train_timesteps, shift=config.flow_shift)
    return scheduler
