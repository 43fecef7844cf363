"""Between soft prompts as they are saved and as a model takes them, and the words that lie nearest to an embedding."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from efface.core.attack_set import SoftPrompt
from efface.core.errors import EffaceError
from efface.core.policy import is_refused
from efface.models.editable import EditableModel
from efface.models.soft_prompt import SoftTokens
from efface.ops.tensor_conversion import to_blob, to_torch


def embedding_table(model: EditableModel) -> Tensor:
    """The text encoder's token embeddings, ``(V, D)``; with two encoders each word's in both, one after the other."""
    tables = [table.detach() for table in model.parameter_group("token_embedding").parameters.values()]
    return tables[0] if len(tables) == 1 else torch.cat(tables, dim=1)


def special_tokens(model: EditableModel) -> Tensor:
    """The ids of BOS and EOS, which no attack may use as a word."""
    return model.tokenize([""]).ids.unique()


def single_token_words(model: EditableModel) -> Tensor:
    """The ids of all words that are one token, ``(V,)``: a text made of them is read back as the same tokens.

    Words that the content policy refuses by themselves are left out.
    """
    tokens = model.tokenize([word for word in model.vocabulary_words() if not is_refused(word)])
    return tokens.ids[tokens.eos == 2, 1].unique()


def to_soft_prompt(soft: SoftTokens) -> list[SoftPrompt]:
    """Each row of a batch, as it is saved."""
    rows = zip(soft.embeddings.detach().float(), soft.mask, strict=True)
    return [SoftPrompt(to_blob(row[at]), tuple(torch.nonzero(at)[:, 0].tolist())) for row, at in rows]


def to_soft_tokens(
    model: EditableModel, texts: Sequence[str], prompts: Sequence[SoftPrompt | None]
) -> SoftTokens | None:
    """Saved soft prompts as one batch for a model; None where there is none.

    Raises:
        EffaceError: they were found in a text encoder of another width, or their places are beyond this one's context.
    """
    if all(prompt is None for prompt in prompts):
        return None
    width, length = embedding_table(model).shape[1], model.tokenize([""]).ids.shape[1]
    embeddings, at = torch.zeros(len(texts), length, width), torch.zeros(len(texts), length, dtype=torch.bool)
    for i, prompt in enumerate(prompts):
        if prompt is None:
            continue
        if prompt.embeddings.shape[1] != width or max(prompt.places) >= length:
            found = prompt.embeddings.shape[1]
            raise EffaceError(
                f"the attack has embeddings of width {found}, the text encoder of {model.name} of {width}: it cannot be tried"
            )
        places = torch.tensor(prompt.places)
        embeddings[i, places], at[i, places] = to_torch(prompt.embeddings), True
    return SoftTokens(embeddings.to(model.device), at.to(model.device))


@torch.no_grad()
def nearest_words(model: EditableModel, embeddings: Tensor) -> str:
    """The words whose embeddings are nearest by cosine to each of ``(k, D)``, in one line."""
    table = embedding_table(model).float()
    cosines = torch.nn.functional.normalize(embeddings.float(), dim=-1) @ torch.nn.functional.normalize(table, dim=-1).T
    cosines[:, special_tokens(model)] = -1
    return str(model.detokenize(cosines.argmax(-1).tolist()))
