"""The denoiser in FLUX's shape and the T5 encoder that is trained with it."""

from __future__ import annotations

import torch
from diffusers import FlowMatchEulerDiscreteScheduler, FluxTransformer2DModel
from torch import Tensor, nn
from transformers import T5Config, T5EncoderModel

from contrastive import WIDTH as POOLED_WIDTH
from vae import LATENTS

HEADS, HEAD_WIDTH = 4, 32
ROPE_AXES = (4, 14, 14)
DOUBLE_BLOCKS, SINGLE_BLOCKS = 2, 6
TEXT_WIDTH, TEXT_LAYERS = 128, 4
SIDE = 16  # of the latents
TOKEN_WIDTH = 4 * LATENTS
SHIFT = 1.5
CONTEXT = 32  # tokens of the T5 encoder, with padding


def build_transformer() -> FluxTransformer2DModel:
    """Builds the untrained denoiser.

    The modulations and the last layer start at zero, so that every block starts as the identity.
    """
    model = FluxTransformer2DModel(
        patch_size=1,
        in_channels=TOKEN_WIDTH,
        num_layers=DOUBLE_BLOCKS,
        num_single_layers=SINGLE_BLOCKS,
        attention_head_dim=HEAD_WIDTH,
        num_attention_heads=HEADS,
        joint_attention_dim=TEXT_WIDTH,
        pooled_projection_dim=POOLED_WIDTH,
        guidance_embeds=True,
        axes_dims_rope=ROPE_AXES,
    )
    blocks = [*model.transformer_blocks, *model.single_transformer_blocks]
    norms = [getattr(b, n) for b in blocks for n in ("norm", "norm1", "norm1_context") if hasattr(b, n)]
    for layer in (*(norm.linear for norm in norms), model.norm_out.linear, model.proj_out):
        nn.init.zeros_(layer.weight)
        nn.init.zeros_(layer.bias)
    return model


def build_text_encoder(vocab_size: int) -> T5EncoderModel:
    """Builds the untrained T5 encoder (version 1.1: gated GELU)."""
    config = T5Config(
        vocab_size=vocab_size,
        d_model=TEXT_WIDTH,
        d_kv=32,
        d_ff=2 * TEXT_WIDTH,
        num_layers=TEXT_LAYERS,
        num_heads=4,
        relative_attention_num_buckets=16,
        relative_attention_max_distance=32,
        dropout_rate=0.0,
        feed_forward_proj="gated-gelu",
        pad_token_id=0,
        eos_token_id=1,
        decoder_start_token_id=0,
        use_cache=False,
    )
    return T5EncoderModel(config)


def build_scheduler() -> FlowMatchEulerDiscreteScheduler:
    """Builds the Euler scheduler; the shift gives more steps to high noise levels."""
    return FlowMatchEulerDiscreteScheduler(shift=SHIFT, use_dynamic_shifting=False)


def pack(latents: Tensor) -> Tensor:
    """Converts latents ``(B, 4, 16, 16)`` to FLUX's tokens ``(B, 64, 16)``, one for each 2 x 2 patch."""
    batch, half = len(latents), SIDE // 2
    patches = latents.view(batch, LATENTS, half, 2, half, 2).permute(0, 2, 4, 1, 3, 5)
    return patches.reshape(batch, half * half, TOKEN_WIDTH)


def image_ids() -> Tensor:
    """Returns the row and column of each image token as FluxPipeline does: ``(64, 3)``."""
    rows, columns = torch.meshgrid(torch.arange(SIDE // 2), torch.arange(SIDE // 2), indexing="ij")
    return torch.stack([torch.zeros_like(rows), rows, columns], dim=-1).reshape(-1, 3).float()


def _as_float(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
    return output.float()


class FlowModel(nn.Module):
    """Denoiser and T5 encoder, trained together.

    Args:
        vocab_size: number of pieces of the T5 tokenizer.
    """

    image_ids: Tensor
    text_ids: Tensor

    def __init__(self, vocab_size: int) -> None:
        super().__init__()
        self.transformer = build_transformer()
        self.t5 = build_text_encoder(vocab_size)
        self.register_buffer("image_ids", image_ids(), persistent=False)
        self.register_buffer("text_ids", torch.zeros(CONTEXT, 3), persistent=False)
        # Under autocast the residual stream, and the timestep that is cast to its type, would be bfloat16.
        for layer in (self.transformer.x_embedder, self.transformer.context_embedder):
            layer.register_forward_hook(_as_float)

    def encode(self, ids: Tensor) -> Tensor:
        """Maps token ids ``(B, T)`` to T5 states ``(B, T, width)``; padding is not masked, as in FluxPipeline."""
        return self.t5(ids)[0]

    def forward(self, states: Tensor, pooled: Tensor, x: Tensor, sigma: Tensor, guidance: Tensor) -> Tensor:
        """Predicts the velocity ``(B, 64, 16)`` of noisy tokens ``x`` at noise level ``sigma`` (0 to 1)."""
        return self.transformer(
            hidden_states=x,
            timestep=sigma,
            guidance=guidance,
            pooled_projections=pooled,
            encoder_hidden_states=states,
            txt_ids=self.text_ids,
            img_ids=self.image_ids,
            return_dict=False,
        )[0]

    def compile_blocks(self) -> None:
        """Compiles the denoiser's blocks; blocks of one kind share the compiled code."""
        torch._dynamo.config.recompile_limit = 64
        for block in (*self.transformer.transformer_blocks, *self.transformer.single_transformer_blocks):
            block.compile(dynamic=False)
