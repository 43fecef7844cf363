"""Conversion between saved soft prompts and a model's soft tokens, and the token embeddings of a text encoder."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import normalize

from efface.core.attack_set import SoftPrompt
from efface.core.errors import EffaceError
from efface.core.policy import is_refused
from efface.models.editable import EditableModel
from efface.models.soft_prompt import SoftTokens
from efface.ops.tensor_conversion import to_blob, to_torch


def embedding_table(model: EditableModel) -> Tensor:
    """Returns the text encoder's token embeddings, ``(V, D)``; those of two CLIP encoders are concatenated along D.

    Where T5 reads the prompts (SD3, FLUX), the embeddings are T5's alone.
    """
    tables = [table.detach() for table in model.parameter_group("token_embedding").parameters.values()]
    return tables[-1] if model.tokenize([""]).clip is not None else torch.cat(tables, dim=1)


def special_token_ids(model: EditableModel) -> Tensor:
    """Returns the token ids of BOS and EOS, which an attack may not use as words."""
    return model.tokenize([""]).ids.unique()


def single_token_ids(model: EditableModel) -> Tensor:
    """Returns the token ids of all words of one token, ``(V,)``, without those that the content policy refuses.

    The tokenizer splits a text of such words into the same tokens again.
    """
    tokens = model.tokenize([word for word in model.vocabulary_words() if not is_refused(word)])
    return tokens.ids[tokens.eos == tokens.start + 1, tokens.start].unique()


def to_soft_prompts(soft: SoftTokens) -> list[SoftPrompt]:
    """Converts each row of a batch of soft tokens to a soft prompt that can be saved."""
    rows = zip(soft.embeddings.detach().float(), soft.mask, strict=True)
    return [SoftPrompt(to_blob(row[mask]), tuple(torch.nonzero(mask)[:, 0].tolist())) for row, mask in rows]


def to_soft_tokens(model: EditableModel, soft_prompts: Sequence[SoftPrompt | None]) -> SoftTokens | None:
    """Converts saved soft prompts to one batch for a model; None if every entry is None.

    Raises:
        EffaceError: soft prompts of another embedding width, or with positions beyond the model's context length.
    """
    if all(prompt is None for prompt in soft_prompts):
        return None
    width, length = embedding_table(model).shape[1], model.tokenize([""]).ids.shape[1]
    embeddings = torch.zeros(len(soft_prompts), length, width)
    mask = torch.zeros(len(soft_prompts), length, dtype=torch.bool)
    for row, prompt in enumerate(soft_prompts):
        if prompt is None:
            continue
        _check_fits(prompt, model.name, width, length)
        positions = torch.tensor(prompt.positions)
        embeddings[row, positions] = to_torch(prompt.embeddings)
        mask[row, positions] = True
    return SoftTokens(embeddings.to(model.device), mask.to(model.device))


def _check_fits(prompt: SoftPrompt, model_name: str, width: int, length: int) -> None:
    cure = "choose the model that was attacked, or attack this one"
    if prompt.embeddings.shape[1] != width:
        raise EffaceError(
            f"the attack has embeddings of width {prompt.embeddings.shape[1]}, but the text encoder of {model_name} "
            f"has width {width}: {cure}"
        )
    if max(prompt.positions) >= length:
        raise EffaceError(
            f"the attack has an embedding at token position {max(prompt.positions)}, but the context of {model_name} "
            f"ends after {length} tokens: {cure}"
        )


@torch.no_grad()
def nearest_words(model: EditableModel, embeddings: Tensor) -> str:
    """Returns the words whose token embeddings are nearest by cosine to each of ``(k, D)``, in one line."""
    table = normalize(embedding_table(model).float(), dim=-1)
    cosines = normalize(embeddings.float(), dim=-1) @ table.T
    cosines[:, special_token_ids(model)] = -1
    return str(model.detokenize(cosines.argmax(-1).tolist()))
