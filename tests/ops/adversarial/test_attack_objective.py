"""The objectives of the embedding attack are their formulae."""

from __future__ import annotations

import pytest
import torch
from helpers.tiny import tiny_model

from efface.models.protocol import Conditioning, Tokens
from efface.models.soft_prompt import SoftTokens
from efface.ops.adversarial.attack_objective import AttackObjective, AttackTarget
from efface.ops.text.concept_tokens import locate_concept
from efface.ops.text.similarity import Similarity
from efface.ops.text.soft_prompts import embedding_table

FORMULAE = {
    "hide_concept": lambda s, e, o, c_e, c_o: -s(e, c_e),
    "stay_unchanged": lambda s, e, o, c_e, c_o: s(e, o),
    "recover_concept": lambda s, e, o, c_e, c_o: s(e, c_o),
    "diverge": lambda s, e, o, c_e, c_o: -s(e, o),
    "concept_only": lambda s, e, o, c_e, c_o: torch.zeros(1),
}


@pytest.mark.parametrize("kind", ["token_cosine", "kv_distance"])
@pytest.mark.parametrize("objective", FORMULAE)
def test_objective_is_its_formula(objective: str, kind: str) -> None:
    original, erased = tiny_model(), tiny_model(seed=3)
    s = Similarity(original, kind)
    prompt_tokens, concept_only = (
        locate_concept(original, ["a gun x"], ["gun"]),
        locate_concept(original, ["gun"], ["gun"]),
    )
    table = embedding_table(original).float()
    mask = prompt_tokens.context_mask
    soft = SoftTokens(table[prompt_tokens.tokens.ids].flip(1), mask)
    with torch.no_grad():
        e, o = (
            s.compared_states(m.encode(prompt_tokens.tokens, soft=soft).states, prompt_tokens)
            for m in (erased, original)
        )
        c_e, c_o = (s.concept_states(m.encode, prompt_tokens, concept_only) for m in (erased, original))
    target = AttackTarget(erased.encode, original.encode, s, table)
    for concept_weight in (0.5, 2.0):
        value = AttackObjective(objective, concept_weight, target, prompt_tokens, concept_only)(soft)
        expected = concept_weight * s(o, c_o) + FORMULAE[objective](s, e, o, c_e, c_o)
        torch.testing.assert_close(value, expected, atol=1e-5, rtol=1e-5)


def test_weight_zero_leaves_out_the_concept_unless_it_is_the_only_summand() -> None:
    model = tiny_model()
    s = Similarity(model, "token_cosine")
    prompt_tokens, concept_only = locate_concept(model, ["a gun x"], ["gun"]), locate_concept(model, ["gun"], ["gun"])
    table = embedding_table(model).float()
    soft = SoftTokens(table[prompt_tokens.tokens.ids], prompt_tokens.context_mask)

    def without_attack(tokens: Tokens, *, soft: SoftTokens | None = None) -> Conditioning:
        assert soft is None, "this encoder is not needed for the attacked prompt"
        return model.encode(tokens)

    recover = AttackObjective(
        "recover_concept", 0.0, AttackTarget(model.encode, without_attack, s, table), prompt_tokens, concept_only
    )
    only = AttackObjective(
        "concept_only", 0.0, AttackTarget(without_attack, model.encode, s, table), prompt_tokens, concept_only
    )
    torch.testing.assert_close(recover(soft), only(soft), msg="one encoder: both are its similarity to the concept")
