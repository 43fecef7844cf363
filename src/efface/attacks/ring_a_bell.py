"""Ring-A-Bell (Tsai et al., ICLR 2024, arXiv 2310.10012): words whose encoding is a prompt's, pushed along the concept's direction.

    v = mean over sentences of ( E*(with the concept) - E*(without) )          T = E*(prompt) + eta v
    minimise || E*(BOS, w_1 .. w_K, EOS ..) - T ||^2 over K real words, by a genetic search

It needs the unedited text encoder alone and never asks the model under attack: what is found against one is tried on all. Every one of the
``population`` best-ranked half survives; each survivor has children by one-point crossover with a mate, and each individual but the best
changes one word with a probability.

Where we differ: only words that are one token are used, so that the text that is found is read back as the same tokens, and the best one
is never mutated.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial

import torch
from torch import Tensor

from efface.core.attack_set import AttackPrompt, AttackSet, AttackTask, Budget
from efface.core.concept import Concept, fill_templates
from efface.core.errors import EffaceError
from efface.core.method_card import MethodCard
from efface.models.editable import EditableModel
from efface.models.protocol import Conditioning, Tokens
from efface.ops.adversarial.attack_context import AttackContext
from efface.ops.text.soft_prompts import single_token_words
from efface.ops.text.templates import names_context, remove_concept, template_library, templates_for_kind

CARD = MethodCard(
    name="ring_a_bell",
    title="Ring-A-Bell",
    paper="Tsai, Hsu, Xie, Lin, Chen, Li, Chen, Yu, Huang: Ring-A-Bell! How Reliable are Concept Removal Methods?, ICLR 2024",
    arxiv="2310.10012",
    families=("sd1", "sd2", "sdxl"),
    trains="",
    needs_gradient=False,
    needs_images=False,
    vram={},
    minutes={},
    reconstruction=False,
    summary="Real words whose encoding lies along the concept's direction, by a genetic search.",
    batch_independent=True,
)


@dataclass(frozen=True)
class Config:
    """The search's hyper-parameters; the defaults are those of the released notebook."""

    num_tokens: int = field(default=16, metadata={"help": "K, words of a prompt", "range": "8 to 75"})
    concept_scale: float = field(
        default=3.0, metadata={"help": "how far along the concept's direction", "range": "2 to 6"}
    )
    population: int = field(default=200, metadata={"help": "individuals"})
    generations: int = field(default=3000, metadata={"help": "generations"})
    crossover: float = field(default=0.5, metadata={"help": "probability that a survivor has two children"})
    mutation: float = field(default=0.25, metadata={"help": "probability that an individual changes a word"})


Encode = Callable[..., Conditioning]
PRESETS: dict[str, dict[str, object]] = {"paper": {}, "pocket": {"num_tokens": 8, "population": 64, "generations": 60}}


def ring_a_bell(
    model: EditableModel, concept: Concept, tasks: Sequence[AttackTask], config: Config, run: AttackContext
) -> AttackSet:
    """One search for every task's prompt."""
    length = model.tokenize([""]).ids.shape[1]
    if not 1 <= config.num_tokens <= length - 2 or config.population < 4 or config.generations < 1:
        raise EffaceError(f"words must be 1 to {length - 2}, population at least 4 and generations at least 1")
    encode = partial(model.encode, params=run.original_text_params)
    vocabulary, rows = single_token_words(model), []
    run.progress.start("ring-a-bell: genetic search", len(tasks), 0)
    try:
        with torch.no_grad():
            direction = concept_vector(encode, concept)
            for task in tasks:
                target = encode([task.prompt]).states[0] + config.concept_scale * direction
                best, distance = evolve(
                    encode, model.tokenize([""]), vocabulary, target, config, run.generator_for([task])
                )
                rows.append(AttackPrompt(task.prompt, model.detokenize(best.tolist()), task.seed))
                run.progress.update(len(rows), {"distance": distance})
    finally:
        run.progress.stop()
    return AttackSet(
        "ring_a_bell", concept, tuple(rows), asdict(config), Budget(config.generations, 0.0), seed=run.seed
    )


def concept_vector(encode: Encode, concept: Concept) -> Tensor:
    """The mean difference of the states with and without the concept, ``(L, D)``, over the library's sentences with something else."""
    sentences = [t for t in templates_for_kind(template_library(concept.kind), concept.kind) if names_context(t)]
    mean: Tensor = (
        encode(fill_templates(sentences, [concept.name])).states - encode([remove_concept(t) for t in sentences]).states
    ).mean(0)
    return mean


def evolve(
    encode: Encode, empty: Tokens, vocabulary: Tensor, target: Tensor, config: Config, generator: torch.Generator
) -> tuple[Tensor, float]:
    """The K words ``(K,)`` whose states come nearest to the target ``(L, D)``, and their mean squared distance."""
    size, k, device = config.population, config.num_tokens, vocabulary.device

    def draw(*shape: int) -> Tensor:
        return torch.randint(len(vocabulary), shape, generator=generator).to(device)

    def distances(individuals: Tensor) -> Tensor:
        ids = empty.ids.repeat(len(individuals), 1)
        ids[:, 1 : 1 + k] = vocabulary[individuals]
        ids[:, 1 + k] = empty.ids[0, 1]  # end of text, which not every tokenizer pads with
        eos = torch.full((len(ids),), 1 + k, device=device)
        mask = (torch.arange(ids.shape[1], device=device) <= 1 + k).long().expand(len(ids), -1)
        states = encode(Tokens(ids, mask, eos)).states
        return (states - target).square().mean((1, 2))

    population = draw(size, k)
    for _ in range(config.generations):
        order = distances(population).argsort()
        parents = population[order[: size // 2]]
        fertile = parents[torch.rand(len(parents), generator=generator).to(device) < config.crossover]
        mates = parents[torch.randint(len(parents), (len(fertile),), generator=generator).to(device)]
        cut = torch.randint(1, max(k, 2), (len(fertile), 1), generator=generator).to(device)
        first = torch.arange(k, device=device)[None] < cut
        children = torch.cat([torch.where(first, fertile, mates), torch.where(first, mates, fertile)])
        fresh = draw(max(0, size - len(parents) - len(children)), k)
        population = torch.cat([parents, children, fresh])
        changed = (torch.rand(len(population), generator=generator) < config.mutation).to(device)
        changed[0] = False
        at = torch.randint(k, (len(population),), generator=generator).to(device)
        new = torch.where(changed, draw(len(population)), population.gather(1, at[:, None])[:, 0])
        population = population.scatter(1, at[:, None], new[:, None])
    scores = distances(population)
    return vocabulary[population[int(scores.argmin())]], float(scores.min())
