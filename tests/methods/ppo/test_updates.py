"""How many updates a rollout gets, how large they may be, and at which learning rate."""

from typing import Any

import pytest
import torch

from tests.methods.ppo import numpy_ppo
from tests.methods.ppo.exact import Snapshot
from tests.methods.ppo.tiny_ppo import ROLLOUT, adapter_of, before_updates, prompts, rollouts_of, section, trainer_of
from tests.policy import tiny_llama

# Every minibatch is the whole rollout: the policy before an update says which approx_kl that update was made at.
FAR = {"learning_rate": 1e-3, "warmup_steps": 0, "epochs": 6, "minibatch_size": ROLLOUT, "micro_batch_size": ROLLOUT}


def approx_kls(policy: Any, max_approx_kl: float | None) -> tuple[list[float], float, dict[str, float]]:
    """Take one step; return approx_kl before every update that was made and after the last, and the statistics."""
    trainer = trainer_of(policy, **FAR, max_approx_kl=max_approx_kl)
    rollouts, seen = rollouts_of(trainer), []
    before_updates(trainer, lambda: seen.append(Snapshot(policy)))
    statistics = trainer.step(0).statistics
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
    for done in range(2):
        statistics = trainer.step(done).statistics
        assert 1 <= statistics["policy/updates"] < 2 * ROLLOUT / 4
        assert statistics["policy/approx_kl"] > 0


def test_without_a_limit_every_epoch_is_made(policy: Any) -> None:
    trainer = trainer_of(policy, learning_rate=2e-2, warmup_steps=0, minibatch_size=8, epochs=3)
    assert trainer.step(0).statistics["policy/updates"] == 6


def test_a_step_that_was_stopped_before_any_update_keeps_the_weights_and_the_learning_rate(policy: Any) -> None:
    trainer, before = trainer_of(policy, warmup_steps=5, max_approx_kl=1e-30), adapter_of(policy)
    first, second = (trainer.step(done).statistics for done in range(2))
    assert first["policy/updates"] == second["policy/updates"] == 0
    assert all(torch.equal(old, new) for old, new in zip(before, adapter_of(policy), strict=True))
    trainer.ppo = section(warmup_steps=5)
    rates = [item["policy/learning_rate"] for item in (first, second, *(trainer.step(n).statistics for n in (2, 3)))]
    assert 0 < rates[0] == rates[1] == rates[2] < rates[3]


def test_every_completion_is_in_every_epoch_once(policy: Any) -> None:
    trainer, seen = trainer_of(policy, minibatch_size=4, micro_batch_size=3, epochs=2), []
    analyze = policy.analyze

    def listen(items: Any, **keywords: Any) -> Any:
        if torch.is_grad_enabled():
            seen.extend(items)
        return analyze(items, **keywords)

    policy.analyze = listen
    rollouts = rollouts_of(trainer)
    trainer.step(0)
    for epoch in (seen[:ROLLOUT], seen[ROLLOUT:]):
        assert sorted(map(repr, epoch)) == sorted(map(repr, rollouts[0].completions))
    assert seen[:ROLLOUT] != seen[ROLLOUT:], "minibatches are drawn anew"


def test_prompts_and_minibatches_are_drawn_from_streams_of_their_own(policy: Any) -> None:
    trainer, given = trainer_of(policy, prompts_per_step=16, samples_per_prompt=1, epochs=1), prompts(16)
    drawn = [given.index(prompt) for prompt in trainer.batch(0)]
    steps = [torch.cat(trainer._minibatches(16, done)).tolist() for done in range(2)]
    assert all(sorted(order) == list(range(16)) for order in (drawn, *steps))
    assert len(set(map(tuple, (drawn, *steps)))) == 3


def test_the_gradient_of_each_group_is_scaled_down_by_its_own_norm(workplace: Any) -> None:
    def gradients(limit: float) -> tuple[dict[str, torch.Tensor], dict[str, float]]:
        trainer = trainer_of(policy := tiny_llama.new_policy(), max_grad_norm=limit, epochs=1, minibatch_size=ROLLOUT)
        statistics = trainer.step(0).statistics
        groups = zip(("policy", "value"), policy.trainable().values(), strict=True)
        made = {name: torch.cat([item.grad.flatten() for item in group]) for name, group in groups}
        return made, {name: statistics[f"{name}/grad_norm"] for name in made}

    whole, norms = gradients(1e6)
    assert norms == pytest.approx({name: item.norm().item() for name, item in whole.items()}, rel=1e-5)
    small, large = sorted(norms, key=norms.get)
    limit = (norms[small] * norms[large]) ** 0.5
    assert norms[small] < 0.9 * limit
    scaled, same = gradients(limit)
    assert same == norms, "what is reported is from before"
    assert torch.equal(scaled[small], whole[small])
    torch.testing.assert_close(scaled[large], whole[large] * limit / norms[large], rtol=1e-3, atol=1e-8)


def test_the_learning_rate_rises_over_the_warmup_and_falls_to_the_end(policy: Any) -> None:
    trainer = trainer_of(policy, steps=6, warmup_steps=2, learning_rate=1e-4, value_learning_rate=1e-3)
    firsts = [weights[0] for weights in policy.trainable().values()]
    used = []
    for done in range(6):
        groups = trainer.optimizer._adam.param_groups
        used.append(
            [
                next(group["lr"] for group in groups if any(weight is item for item in group["params"]))
                for weight in firsts
            ]
        )
        assert trainer.step(done).statistics["policy/learning_rate"] == used[-1][0]
    rates = [adapter for adapter, _ in used]
    assert 0 < rates[0] < rates[1] < rates[2] == pytest.approx(1e-4)
    assert rates[2] > rates[3] > rates[4] > rates[5] > 0
    assert all(value == pytest.approx(10 * adapter) for adapter, value in used)


def test_the_adapter_and_the_value_head_have_their_own_learning_rate(policy: Any) -> None:
    before = adapter_of(policy)
    trainer_of(policy, learning_rate=1e-30, value_learning_rate=1e-2).step(0)
    for old, new in zip(before, adapter_of(policy), strict=True):
        torch.testing.assert_close(new, old, rtol=0, atol=1e-25)
    assert policy.value_head.linear.weight.abs().max() > 1e-3
