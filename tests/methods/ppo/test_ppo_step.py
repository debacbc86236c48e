"""One PPO step on a real (tiny) policy: how it reads, what it starts from, and where its completions come from."""

import ast
import inspect
import textwrap
from typing import Any

import pytest
import torch

from pipeline.methods.ppo.trainer import PPOTrainer
from tests.methods.ppo.tiny_ppo import ROLLOUT, adapter_of, rollouts_of, trainer_of


def test_the_step_reads_as_the_algorithm() -> None:
    (function,) = ast.parse(textwrap.dedent(inspect.getsource(PPOTrainer.step))).body
    assert isinstance(function, ast.FunctionDef) and function.end_lineno is not None
    assert function.end_lineno - function.lineno + 1 <= 30


def test_it_starts_without_kl_and_then_leaves_the_reference(policy: Any) -> None:
    trainer = trainer_of(policy, learning_rate=1e-2)
    before = adapter_of(policy)
    first = trainer.step(0).statistics
    # the policy's side is recalled from sampling: equal up to rounding, not to the bit
    assert abs(first["objective/kl"]) < 1e-5 and abs(first["objective/kl_k3"]) < 1e-9
    assert all(not torch.equal(old, new) for old, new in zip(before, adapter_of(policy), strict=True))
    assert trainer.step(1).statistics["objective/kl_k3"] > 1e-4


def test_a_rollout_is_drawn_from_the_whole_distribution(policy: Any) -> None:
    ranks = []  # the probability of all tokens that were likelier than the one drawn
    for item in trainer_of(policy).complete(0):
        ids = torch.tensor([item.prompt.token_ids + item.token_ids])
        with torch.no_grad():
            logits = policy.model(input_ids=ids).logits[0, len(item.prompt.token_ids) - 1 : -1]
        for row, token in zip(torch.softmax(logits, dim=-1), item.token_ids, strict=True):
            ranks.append(row[row > row[token]].sum().item())
    tail = sum(rank > 0.9 for rank in ranks) / len(ranks)
    assert len(ranks) > 80 and 0.02 < tail < 0.2, "truncation or cooling would leave the tail out"


def test_every_step_draws_anew_and_every_seed_something_else(policy: Any) -> None:
    def drawn(seed: int) -> list[set[tuple[str, tuple[int, ...]]]]:
        trainer = trainer_of(policy, seed=seed)
        return [{(item.prompt.id, item.token_ids) for item in trainer.complete(done)} for done in range(2)]

    first, second = drawn(0)
    assert first != second and drawn(0) == [first, second]
    assert first not in drawn(1) and second not in drawn(1)


@pytest.mark.parametrize("gae_lambda", [1.0, 0.5])
def test_the_values_of_the_first_rollout_are_the_mean_of_its_returns_and_explain_nothing(
    policy: Any, gae_lambda: float
) -> None:
    trainer = trainer_of(policy, gae_lambda=gae_lambda, kl_coef=0.0, gamma=1.0)
    rollouts = rollouts_of(trainer)
    first = trainer.step(0).statistics
    mask, scores = rollouts[0].mask, rollouts[0].scores
    mean = (scores * mask.sum(dim=1)).sum() / mask.sum()  # without KL and discount, every token's return is the score
    torch.testing.assert_close(rollouts[0].before.values, torch.where(mask, mean, 0.0))
    assert first["value/explained_variance"] == pytest.approx(0, abs=1e-5) and abs(mean) > 0.1
    trainer.step(1)
    again = policy.analyze(rollouts[1].completions, recall=True)
    assert torch.equal(rollouts[1].before.values, again.values), "later ones are what the head says"


def test_the_price_of_kl_is_steered_towards_its_target(policy: Any) -> None:
    trainer = trainer_of(policy, kl_target=1.0, kl_horizon=160)
    first, second = (trainer.step(done).statistics for done in range(2))
    assert abs(first["objective/kl"]) < 1e-5
    assert second["objective/kl_coef"] == pytest.approx(first["objective/kl_coef"] * (1 - 0.2 * ROLLOUT / 160))
