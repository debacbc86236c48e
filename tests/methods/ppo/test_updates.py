"""How many updates a rollout gets, how large they may be, and at which learning rate."""

from typing import Any

import pytest
import torch

from tests.methods.ppo import numpy_ppo
from tests.methods.ppo.exact import Snapshot
from tests.methods.ppo.tiny_ppo import ROLLOUT, adapter_of, prompts, rollouts_of, trainer_of
from tests.policy import tiny_llama

# Every minibatch is the whole rollout: the policy before an update says which approx_kl that update was made at.
FAR = {"learning_rate": 1e-3, "warmup_steps": 0, "epochs": 6, "minibatch_size": ROLLOUT, "micro_batch_size": ROLLOUT}


def approx_kls(policy: Any, max_approx_kl: float | None) -> tuple[list[float], float, dict[str, float]]:
    """Take one step; return approx_kl before every update that was made and after the last, and the statistics."""
    trainer = trainer_of(policy, **FAR, max_approx_kl=max_approx_kl)
    rollouts, seen = rollouts_of(trainer), []
    trainer.updater.optimizer.register_step_pre_hook(lambda *_: seen.append(Snapshot(policy)))
    statistics = trainer.step(prompts())
    items = rollouts[0].completions
    read = [snapshot.read(items) for snapshot in [*seen, Snapshot(policy)]]
    nothing = numpy_ppo.Targets(*([seen.values for seen in read[0]],) * 2)
    found = [numpy_ppo.update(now, read[0], nothing, trainer.ppo)["policy/approx_kl"] for now in read]
    return found[:-1], found[-1], statistics


def test_no_update_is_made_at_a_kl_beyond_the_limit(workplace: Any) -> None:
    free, _, all_of_them = approx_kls(tiny_llama.new_policy(), None)
    assert all_of_them["policy/updates"] == len(free) == 6 and free[0] < 1e-9
    limit = (free[1] + free[2]) / 2
    assert free[1] < limit < free[2]
    made, left, statistics = approx_kls(tiny_llama.new_policy(), limit)
    assert statistics["policy/updates"] == len(made) == 2
    assert made == pytest.approx(free[:2], rel=1e-6), "until then nothing is different"
    assert max(made) < limit < left == pytest.approx(free[2], rel=1e-6)


def test_the_limit_stops_a_step_and_not_the_training(policy: Any) -> None:
    trainer = trainer_of(policy, learning_rate=2e-2, warmup_steps=0, max_approx_kl=1e-5)
    for _ in range(2):
        statistics = trainer.step(prompts())
        assert 1 <= statistics["policy/updates"] < 2 * ROLLOUT / 4
        assert statistics["policy/approx_kl"] > 0


def test_without_a_limit_every_epoch_is_made(policy: Any) -> None:
    trainer = trainer_of(policy, learning_rate=2e-2, warmup_steps=0, minibatch_size=8, epochs=3)
    assert trainer.step(prompts())["policy/updates"] == 6


def test_every_completion_is_in_every_epoch_once(policy: Any) -> None:
    trainer, seen = trainer_of(policy, minibatch_size=4, micro_batch_size=3, epochs=2), []
    analyze = policy.analyze

    def listen(items: Any) -> Any:
        if torch.is_grad_enabled():
            seen.extend(items)
        return analyze(items)

    policy.analyze = listen
    rollouts = rollouts_of(trainer)
    trainer.step(prompts())
    for epoch in (seen[:ROLLOUT], seen[ROLLOUT:]):
        assert sorted(map(repr, epoch)) == sorted(map(repr, rollouts[0].completions))
    assert seen[:ROLLOUT] != seen[ROLLOUT:], "minibatches are drawn anew"


def test_gradients_are_scaled_down_to_their_norm_and_not_cut(workplace: Any) -> None:
    found = {}
    for limit in (1e6, 0.01):
        policy = tiny_llama.new_policy()
        trainer = trainer_of(policy, max_grad_norm=limit, epochs=1, minibatch_size=ROLLOUT)
        statistics = trainer.step(prompts())
        gradient = torch.cat([parameter.grad.flatten() for parameter in trainer.updater.parameters])  # type: ignore[union-attr]
        found[limit] = gradient, statistics["policy/grad_norm"]
    (whole, norm), (scaled, same) = found[1e6], found[0.01]
    assert norm == same == pytest.approx(whole.norm().item(), rel=1e-5) and norm > 0.1
    torch.testing.assert_close(scaled, whole * 0.01 / norm, rtol=1e-3, atol=1e-8)


def test_the_learning_rate_rises_over_the_warmup_and_falls_to_the_end(policy: Any) -> None:
    trainer = trainer_of(policy, steps=6, warmup_steps=2, learning_rate=1e-4, value_learning_rate=1e-3)
    used = []
    for _ in range(6):
        used.append([group["lr"] for group in trainer.updater.optimizer.param_groups])
        assert trainer.step(prompts())["policy/learning_rate"] == used[-1][0]
    rates = [adapter for adapter, _ in used]
    assert 0 < rates[0] < rates[1] < rates[2] == pytest.approx(1e-4)
    assert rates[2] > rates[3] > rates[4] > rates[5] > 0
    assert all(value == pytest.approx(10 * adapter) for adapter, value in used)


def test_the_adapter_and_the_value_head_have_their_own_learning_rate(policy: Any) -> None:
    before = adapter_of(policy)
    trainer_of(policy, learning_rate=1e-30, value_learning_rate=1e-2).step(prompts())
    for old, new in zip(before, adapter_of(policy), strict=True):
        torch.testing.assert_close(new, old, rtol=0, atol=1e-25)
    assert policy.value_head.linear.weight.abs().max() > 1e-3
