"""Pseudo-words: random token embeddings whose meaning an erasure must keep, so that it stays limited to its concept."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import torch
from torch import Tensor
from torch.nn.functional import normalize

from efface.models.protocol import Conditioning
from efface.models.soft_prompt import SoftTokens
from efface.ops.text.concept_prompts import ConceptPrompts
from efface.ops.text.concept_tokens import ConceptTokens
from efface.ops.text.similarity import Similarity
from efface.ops.text.soft_prompts import embedding_table
from efface.ops.training.chunked_loss import prediction_error
from efface.ops.training.student import Student


class PseudoWords:
    """Retains the concept's prompts p with a pseudo-word v in place of the concept.

        v = m + n ( a c + sqrt(1 - a^2) u ),     a ~ U(0, max_cosine)

        prediction loss    || e(z_t, t, E(p with v)) - e(z_t, t, E*(p with v)) ||^2
        state loss         mean( 1 - s(E(p with v), E*(p with v)) ),     s of `Similarity`, ``kv_distance``

    m is the mean token embedding, n the distance of a random token embedding from m, and c the direction from m to the
    concept's token. u is a random direction orthogonal to c, with the covariance of the vocabulary. The cosine of v to
    the concept's word is thus at most ``max_cosine``, as for the words of its neighbours; its synonyms have a higher
    cosine. No other word is named, so that the evaluation's words remain unknown to the method.

    The prediction loss is strict: a shift of a few percent of a prompt's states, in a direction that the erasure has
    learnt, suffices for the denoiser to generate nothing. The state loss is looser, for concepts whose erasure must
    extend to words that no prompt names.

    Args:
        student: the student E with its original E*.
        max_cosine: largest cosine of a pseudo-word to the concept's word.
    """

    def __init__(self, student: Student, max_cosine: float) -> None:
        self.student = student
        self.max_cosine = max_cosine
        self._table = embedding_table(student.model).float()
        self._mean = self._table.mean(0)
        self._lengths = (self._table - self._mean).norm(dim=-1)
        self._padding_id = int(student.model.tokenize([""]).ids[0, -1])

    @cached_property
    def _similarity(self) -> Similarity:
        return Similarity(self.student.model, "kv_distance")

    @cached_property
    def _root(self) -> Tensor:
        """R with R R^T the covariance of the token embeddings; computed on first use, which many runs never reach."""
        values, vectors = torch.linalg.eigh(torch.cov(self._table.double().T))
        root: Tensor = vectors * values.clamp(min=0).sqrt()
        return root.to(self._table)

    def sample_embeddings(
        self, token_ids: Tensor, generator: torch.Generator, min_cosine: float, max_cosine: float
    ) -> Tensor:
        """Samples a pseudo-word for each token.

        Args:
            token_ids: ``(B, L)``.
            generator: on the CPU.
            min_cosine: smallest cosine to the token's embedding, both less the mean embedding.
            max_cosine: largest one.

        Returns:
            Embeddings ``(B, L, D)``.
        """
        device = self._table.device
        noise = torch.randn(*token_ids.shape, len(self._mean), generator=generator).to(device) @ self._root.T
        uniform = torch.rand(*token_ids.shape, 1, generator=generator).to(device)
        cosine = min_cosine + (max_cosine - min_cosine) * uniform
        length = self._lengths[torch.randint(len(self._lengths), token_ids.shape, generator=generator).to(device)]
        token = normalize(self._table[token_ids] - self._mean, dim=-1)
        orthogonal = normalize(noise - (noise * token).sum(-1, keepdim=True) * token, dim=-1)
        return self._mean + length[..., None] * (cosine * token + (1 - cosine.square()).sqrt() * orthogonal)

    def synonym_embeddings(
        self, prompt_tokens: ConceptTokens, min_cosine: float, generator: torch.Generator
    ) -> SoftTokens | None:
        """Samples pseudo-synonyms for the concept in every second prompt; None if ``min_cosine`` is 1.

        Args:
            prompt_tokens: the prompts.
            min_cosine: smallest cosine to the concept's token.
            generator: on the CPU.
        """
        if min_cosine >= 1:
            return None
        embeddings = self.sample_embeddings(prompt_tokens.tokens.ids, generator, min_cosine, 1.0)
        return SoftTokens(embeddings, prompt_tokens.concept_mask() & _every_second(prompt_tokens)[:, None])

    def fraction_within(self, name: str, words: Sequence[str]) -> float:
        """Returns the fraction of words whose closest token to the name has a cosine of at least ``max_cosine``."""
        tokens = self.student.model.tokenize([name, *words])
        directions = normalize(self._table[tokens.ids] - self._mean, dim=-1)
        name_tokens, *word_tokens = (row[1:end] for row, end in zip(directions, tokens.eos.tolist(), strict=True))
        num_within = sum(float((row @ name_tokens.T).max()) >= self.max_cosine for row in word_tokens)
        return num_within / max(1, len(words))

    def prediction_loss(self, prompts: ConceptPrompts, batch_size: int, generator: torch.Generator) -> Tensor:
        """Computes the prediction loss of ``batch_size`` prompts on their own trajectories, a scalar."""
        batch, model = prompts.sample(batch_size, generator), self.student.model
        original, student = self._encode_pseudo_words(prompts.prompt_tokens[batch.prompt_index], generator)
        with torch.no_grad():
            target = model.predict(batch.z, batch.t, original).value
        return prediction_error(self.student, batch.z, batch.t, student, target)

    def state_loss(self, prompts: ConceptPrompts, batch_size: int, generator: torch.Generator) -> Tensor:
        """Computes the state loss of ``batch_size`` prompts, a scalar."""
        prompt_index = prompts.sample(batch_size, generator).prompt_index
        original, student = self._encode_pseudo_words(prompts.prompt_tokens[prompt_index], generator)
        compared = self._similarity.compared_states
        return (1 - self._similarity(compared(student.states), compared(original.states))).mean()

    def _encode_pseudo_words(
        self, prompt_tokens: ConceptTokens, generator: torch.Generator
    ) -> tuple[Conditioning, Conditioning]:
        """Encodes prompts with pseudo-words, with the original and with the student."""
        prompt_tokens = self._collapse_every_second(prompt_tokens, generator)
        embeddings = self.sample_embeddings(prompt_tokens.tokens.ids, generator, 0.0, self.max_cosine)
        soft = SoftTokens(embeddings, prompt_tokens.concept_mask())
        with torch.no_grad():
            original = self.student.model.encode(prompt_tokens.tokens, soft=soft)
        return original, self.student.encode(prompt_tokens.tokens, soft=soft)

    def _collapse_every_second(self, prompt_tokens: ConceptTokens, generator: torch.Generator) -> ConceptTokens:
        """Reduces a concept of several tokens to a random one in every second prompt, as most words are one token."""
        concept_mask = prompt_tokens.concept_mask()
        several = concept_mask.sum(1) > 1
        if not bool(several.any()):
            return prompt_tokens
        scores = torch.rand(concept_mask.shape, generator=generator).to(concept_mask.device)
        kept_position = (scores * concept_mask).argmax(1)
        return prompt_tokens.collapse_concept(several & _every_second(prompt_tokens), kept_position, self._padding_id)


def _every_second(prompt_tokens: ConceptTokens) -> Tensor:
    """Marks every second prompt, beginning with the first, bool ``(B,)``."""
    return torch.arange(len(prompt_tokens), device=prompt_tokens.context_mask.device) % 2 == 0
