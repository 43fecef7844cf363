"""Ring-A-Bell (Tsai et al., ICLR 2024, arXiv 2310.10012): words near a prompt's states, shifted towards the concept.

    v = mean over prompts of ( E*(with the concept) - E*(without) )          T = E*(prompt) + concept_scale * v
    minimise || E*(BOS, w_1 .. w_K, EOS ..) - T ||^2 over K real words, by a genetic search

The attack uses only the unedited text encoder E* and never queries the attacked model: the same prompts can be tried on
every erasure. In each generation the better half of the population survives. A survivor has two children, by one-point
crossover with another survivor, with probability ``crossover``; random individuals fill the population. Each individual
but the best changes one word with probability ``mutation``.

Differences from the paper: the vocabulary has only words of one token, so that the tokenizer splits the text into the
same tokens again, and the best individual is never mutated. On SD3 and FLUX, E* is T5 during the search, and CLIP
reads the words as text.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field

import torch
from torch import Tensor

from efface.core.attack_set import AttackPrompt, AttackSet, AttackTask, Budget
from efface.core.concept import Concept, fill_templates
from efface.core.errors import EffaceError
from efface.core.method_card import MethodCard
from efface.models.editable import EditableModel
from efface.models.protocol import Conditioning, Tokens
from efface.ops.adversarial.attack_context import AttackContext
from efface.ops.text.soft_prompts import single_token_ids
from efface.ops.text.templates import names_context, remove_concept, template_library, templates_for_kind
from efface.ops.text.word_tokens import word_tokens

CARD = MethodCard(
    name="ring_a_bell",
    title="Ring-A-Bell",
    paper="Tsai, Hsu, Xie, Lin, Chen, Li, Chen, Yu, Huang: Ring-A-Bell! How Reliable are Concept Removal Methods?, "
    "ICLR 2024",
    arxiv="2310.10012",
    families=("sd1", "sd2", "sdxl", "sd3", "flux"),
    trains="",
    needs_gradient=False,
    needs_images=False,
    reconstruction=False,
    summary="Finds real words whose states are near a prompt's, shifted towards the concept, by a genetic search.",
    batch_independent=True,
    ignores_erasure=True,
)


@dataclass(frozen=True)
class Config:
    """Settings of the search; the defaults are those of the released notebook."""

    num_tokens: int = field(default=16, metadata={"help": "Number of words of a prompt.", "range": "8 to 75"})
    concept_scale: float = field(
        default=3.0, metadata={"help": "Length of the shift along the concept's direction.", "range": "2 to 6"}
    )
    population: int = field(default=200, metadata={"help": "Number of individuals."})
    generations: int = field(default=3000, metadata={"help": "Number of generations."})
    crossover: float = field(
        default=0.5, metadata={"help": "Probability that a survivor has two children.", "range": "0 to 1"}
    )
    mutation: float = field(
        default=0.25, metadata={"help": "Probability that an individual changes a word.", "range": "0 to 1"}
    )


Encode = Callable[..., Conditioning]
PRESETS: dict[str, dict[str, object]] = {"paper": {}, "pocket": {"num_tokens": 8, "population": 64, "generations": 60}}


def ring_a_bell(
    model: EditableModel, concept: Concept, tasks: Sequence[AttackTask], config: Config, run: AttackContext
) -> AttackSet:
    """Runs one search for every task's prompt."""
    vocabulary, empty_tokens = single_token_ids(model), model.tokenize([""])
    _check_config(config, max_words=empty_tokens.ids.shape[1] - empty_tokens.start - 1)
    rows = list[AttackPrompt]()
    run.progress.start("ring-a-bell: genetic search", len(tasks), 0)
    try:
        with torch.no_grad(), run.erasure_disabled():
            direction = concept_vector(model.encode, concept)
            for task in tasks:
                target = model.encode([task.prompt]).states[0] + config.concept_scale * direction
                generator = run.generator_for([task])
                best, distance = evolve(model.encode, empty_tokens, vocabulary, target, config, generator)
                rows.append(AttackPrompt(task.prompt, model.detokenize(best.tolist()), task.seed))
                run.progress.update(len(rows), {"distance": distance})
    finally:
        run.progress.stop()
    budget = Budget(config.generations, 0.0)
    return AttackSet("ring_a_bell", concept, tuple(rows), asdict(config), budget, seed=run.seed)


def concept_vector(encode: Encode, concept: Concept) -> Tensor:
    """Computes the mean difference of states with and without the concept over the library's templates, ``(L, D)``."""
    templates = [t for t in templates_for_kind(template_library(concept.kind), concept.kind) if names_context(t)]
    with_concept = encode(fill_templates(templates, [concept.name])).states
    without_concept = encode([remove_concept(template) for template in templates]).states
    mean: Tensor = (with_concept - without_concept).mean(0)
    return mean


def evolve(
    encode: Encode, empty: Tokens, vocabulary: Tensor, target: Tensor, config: Config, generator: torch.Generator
) -> tuple[Tensor, float]:
    """Searches the K words whose states are nearest to the target.

    Args:
        encode: the unedited text encoder.
        empty: tokens of the empty prompt.
        vocabulary: token ids of the possible words.
        target: states ``(L, D)``.
        config: the settings.
        generator: on the CPU.

    Returns:
        Token ids of the words, ``(K,)``, and the mean squared distance of their states.
    """
    size, device = config.population, vocabulary.device

    def random_words(*shape: int) -> Tensor:
        return torch.randint(len(vocabulary), shape, generator=generator).to(device)

    def distances(individuals: Tensor) -> Tensor:
        states = encode(word_tokens(empty, vocabulary[individuals])).states
        return (states - target).square().mean((1, 2))

    population = random_words(size, config.num_tokens)
    for _ in range(config.generations):
        survivors = population[distances(population).argsort()[: size // 2]]
        children = _crossover(survivors, config.crossover, generator)
        immigrants = random_words(max(0, size - len(survivors) - len(children)), config.num_tokens)
        population = torch.cat([survivors, children, immigrants])
        mutated = (torch.rand(len(population), generator=generator) < config.mutation).to(device)
        mutated[0] = False
        position = torch.randint(config.num_tokens, (len(population),), generator=generator).to(device)[:, None]
        words = torch.where(mutated, random_words(len(population)), population.gather(1, position)[:, 0])
        population = population.scatter(1, position, words[:, None])
    scores = distances(population)
    return vocabulary[population[int(scores.argmin())]], float(scores.min())


def _crossover(survivors: Tensor, probability: float, generator: torch.Generator) -> Tensor:
    """Returns two children each of some survivors and their random mates, by one-point crossover."""
    device, num_words = survivors.device, survivors.shape[1]
    parents = survivors[torch.rand(len(survivors), generator=generator).to(device) < probability]
    mates = survivors[torch.randint(len(survivors), (len(parents),), generator=generator).to(device)]
    cut = torch.randint(1, max(num_words, 2), (len(parents), 1), generator=generator).to(device)
    before_cut = torch.arange(num_words, device=device)[None] < cut
    return torch.cat([torch.where(before_cut, parents, mates), torch.where(before_cut, mates, parents)])


def _check_config(config: Config, max_words: int) -> None:
    if not 1 <= config.num_tokens <= max_words:
        raise EffaceError(f"num_tokens must be 1 to {max_words}, not {config.num_tokens}")
    if config.population < 4 or config.generations < 1:
        raise EffaceError(
            f"population must be at least 4 and generations at least 1, not {config.population} and "
            f"{config.generations}"
        )
