"""Images of concepts and of retain prompts from the original model, with the states of their prompts."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Generator, Tensor

from efface.core.concept import Concept, find_mention
from efface.core.errors import EffaceError
from efface.core.subsample import spread
from efface.models.editable import EditableModel
from efface.ops.training.latents import Latents

from .anchor_prompts import anchor_pairs
from .phrase_states import PhraseStates


class ConceptImages:
    """Images of concepts, one or more for each prompt that names a concept.

    Args:
        model: the original model.
        concepts: the concepts.
        num_templates: number of templates from the library, besides the concepts' own.
        num_images: number of images of the concepts, and of the retain prompts. As many prompts are used at most.
        with_retain_images: whether to generate images of the retain prompts, too.
        generate: generates that many images, one prompt after another.

    Attributes:
        images: of the concepts; the prompt index belongs to `prompts`.
        prompts: that name a concept, with the states of its name or synonym.
        anchor_cond: conditioning of the same prompts with the anchor or without the concept.
        retain: retain prompts, with all of their states marked.
        retain_images: of the retain prompts; None without.

    Raises:
        EffaceError: no retain prompts.
    """

    def __init__(
        self,
        model: EditableModel,
        concepts: Sequence[Concept],
        num_templates: int,
        num_images: int,
        with_retain_images: bool,
        generate: Callable[[Sequence[str]], Latents],
    ) -> None:
        groups = [anchor_pairs(concept, num_templates) for concept in concepts]
        anchors = {prompt: anchor for pairs in groups for prompt, anchor in pairs.items()}
        prompts = spread([tuple(pairs) for pairs in groups], num_images)
        owners = [next(i for i, pairs in enumerate(groups) if prompt in pairs) for prompt in prompts]
        phrases = [
            find_mention(prompt, concepts[owner].words) or concepts[owner].name
            for prompt, owner in zip(prompts, owners, strict=True)
        ]
        retain_prompts = spread([concept.retain_prompts for concept in concepts], num_images)
        if not retain_prompts:
            raise EffaceError("there is nothing to retain: give retain prompts with --retain-file")
        self.prompts = PhraseStates.encode(model, prompts, phrases)
        self.retain = PhraseStates.encode(model, retain_prompts, retain_prompts)
        with torch.no_grad():
            self.anchor_cond = model.encode([anchors[prompt] for prompt in prompts])
        self.images = generate(prompts)
        self.retain_images = generate(retain_prompts) if with_retain_images else None
        self._same_concept = [[i for i, other in enumerate(owners) if other == owner] for owner in owners]

    def contrasts(self, index: Tensor, num_irrelevant: int, generator: Generator) -> PhraseStates:
        """Draws for each of B prompts another one of its concept, and irrelevant ones: ``(1 + num_irrelevant) B`` rows.

        Args:
            index: indices of the prompts, ``(B,)``.
            num_irrelevant: number of retain prompts for each.
            generator: on the CPU.
        """
        draws = torch.rand(len(index), generator=generator).tolist()
        groups = [self._same_concept[i] for i in index.tolist()]
        same = torch.tensor([group[int(draw * len(group))] for group, draw in zip(groups, draws, strict=True)])
        irrelevant = torch.randint(len(self.retain.mask), (len(index) * num_irrelevant,), generator=generator)
        return PhraseStates.cat([self.prompts[same.to(index)], self.retain[irrelevant.to(index)]])
