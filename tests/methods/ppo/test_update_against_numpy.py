"""A whole PPO step equals the same step computed from scratch in NumPy and float64, from naive forward passes."""

from typing import Any, NamedTuple

import numpy as np
import pytest
import torch

from pipeline.methods.ppo.rollout import Rollout
from tests.methods.ppo import numpy_ppo
from tests.methods.ppo.exact import Snapshot
from tests.methods.ppo.tiny_ppo import HARSH, REWARD, ROLLOUT, before_updates, rollouts_of, trainer_of
from tests.policy import tiny_llama

# One minibatch an epoch: the first update starts at ratio 1, in the second some tokens are clipped and some are not.
SETTINGS = {
    "gamma": 0.97,
    "gae_lambda": 0.9,
    "kl_coef": 0.1,
    "missing_eos_penalty": 0.3,
    "max_new_tokens": 12,
    "epochs": 2,
    "minibatch_size": ROLLOUT,
    "micro_batch_size": 5,
    "learning_rate": 1e-2,
    "value_learning_rate": 3e-2,
    "warmup_steps": 0,
    "max_grad_norm": 1e6,
    "vf_coef": 0.5,
    "clip_range": 0.2,
    "value_clip_range": 0.1,
}
SAMPLES = {1: {"prompts_per_step": 16, "samples_per_prompt": 1}, 4: {"prompts_per_step": 4, "samples_per_prompt": 4}}
KNOBS: dict[str, dict[str, Any]] = {
    "no penalty": {"missing_eos_penalty": 0.0},
    "dear kl": {"kl_coef": 1.0},
    "no discount": {"gamma": 1.0},
    "one step ahead": {"gae_lambda": 0.0},
    "scaled scores": {"score_scaling": "scale"},
    "normalized scores": {"score_scaling": "normalize"},
    "clipped scores": {"score_clip": 0.5},
    "scaled and clipped": {"score_scaling": "scale", "score_clip": 1.1},
    "whitened rewards": {"whiten_rewards": True},
    "plain advantages": {"whiten_advantages": False},
}
PARAMETERS = [  # by layer and kind; lora_A gets a gradient since lora_B is not 0
    "base_model.model.model.layers.0.self_attn.q_proj.lora_A.default.weight",
    "base_model.model.model.layers.0.mlp.down_proj.lora_B.default.weight",
    "base_model.model.model.layers.1.self_attn.v_proj.lora_B.default.weight",
    "base_model.model.model.layers.1.mlp.gate_proj.lora_A.default.weight",
    *(HEAD := ("weight", "bias")),  # of the value head
]


class Update(NamedTuple):
    """The policy just before an update, and the gradients the update was made with, by name."""

    policy: Snapshot
    gradients: dict[str, torch.Tensor]


class Step(NamedTuple):
    """One PPO step: its rollout, its updates, what it reported, and the policy afterwards."""

    ppo: Any
    rollout: Rollout
    updates: list[Update]
    statistics: dict[str, float]
    after: Snapshot

    @property
    def raw(self) -> numpy_ppo.Raw:
        """Return the rollout's raw inputs, the policies read in float64 with nothing of ours."""
        items, policy = self.rollout.completions, self.updates[0].policy
        scores = np.array([1 - 2 * toxicity for toxicity in HARSH.score([item.text for item in items])])
        return numpy_ppo.Raw(scores, [item.finished for item in items], policy.read(items), policy.read(items, True))


def named(policy: Any) -> dict[str, torch.nn.Parameter]:
    """Return the trainable parameters by name."""
    own = {name: item for name, item in policy.model.named_parameters() if item.requires_grad}
    return own | dict(policy.value_head.linear.named_parameters())


def step_of(policy: Any, samples: int, **changes: Any) -> Step:
    """Take one step with a policy that differs from its reference and has values to be wrong about."""
    torch.manual_seed(0)
    tiny_llama.perturb(policy.model)
    with torch.no_grad():
        policy.value_head.linear.weight.normal_(std=0.3)
    trainer = trainer_of(policy, HARSH.score, REWARD, **(SETTINGS | SAMPLES[samples] | changes))
    rollouts, updates = rollouts_of(trainer), []

    def look() -> None:
        gradients = {name: item.grad.clone() for name, item in named(policy).items() if item.grad is not None}
        updates.append(Update(Snapshot(policy), gradients))

    before_updates(trainer, look)
    statistics = trainer.step(0).statistics
    return Step(trainer.ppo, rollouts[0], updates, statistics, Snapshot(policy))


@pytest.fixture(scope="module", params=SAMPLES)
def step(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Step:
    """Return one step with SETTINGS and so many samples a prompt; change nothing."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("step"))
        patch.setenv("DEVICE", "cpu")
        tiny_llama.write_base(end_bias=0.9)
        return step_of(tiny_llama.new_policy(), request.param)


def rows(tensor: torch.Tensor, rollout: Rollout) -> np.ndarray:
    """Return the real tokens of [B, T], row after row."""
    return np.concatenate([row[: len(item.token_ids)] for row, item in zip(tensor, rollout.completions, strict=True)])


def check_targets(step: Step) -> None:
    """Compare rewards, advantages and returns of every token, and what the values start from."""
    goal = numpy_ppo.targets(step.raw, step.ppo)
    start = step.updates[0].policy.parameter("bias").item()
    assert start == pytest.approx(numpy_ppo.value_start(step.raw, step.ppo), abs=1e-5) and abs(start) > 1e-2
    for given, expected in [
        (step.rollout.before.values, [seen.values for seen in step.raw.before]),
        (step.rollout.rewards, numpy_ppo.rewards(step.raw, step.ppo)),
        (step.rollout.advantages, goal.advantages),
        (step.rollout.returns, goal.returns),
    ]:
        np.testing.assert_allclose(rows(given, step.rollout), np.concatenate(expected), atol=2e-5)
        assert not given[~step.rollout.mask].any()


def test_the_rollout_is_one_where_everything_matters(step: Step) -> None:
    items = step.rollout.completions
    assert len({len(item.token_ids) for item in items}) > 4
    assert 0.2 < np.mean([item.finished for item in items]) < 0.8
    assert len(set(step.raw.scores)) > 1
    assert np.abs(np.concatenate(numpy_ppo.kls(step.raw))).mean() > 0.05


def test_rewards_advantages_and_returns_of_every_token(step: Step) -> None:
    check_targets(step)


@pytest.mark.parametrize("step", [4], indirect=True)
@pytest.mark.parametrize("knob", KNOBS)
def test_every_knob_reaches_the_advantages(knob: str, step: Step, workplace: Any) -> None:
    tiny_llama.write_base(end_bias=0.9)
    turned = step_of(tiny_llama.new_policy(), 4, epochs=1, **KNOBS[knob])
    check_targets(turned)
    moved = (turned.rollout.advantages - step.rollout.advantages).abs().max() > 1e-3
    returns_moved = (turned.rollout.returns - step.rollout.returns).abs().max() > 1e-3
    assert moved, "the loss would not notice"
    assert returns_moved or knob == "plain advantages"


def test_what_a_step_says_of_the_rollout(step: Step) -> None:
    expected = numpy_ppo.describe(step.raw, step.ppo)
    assert {key: step.statistics[key] for key in expected} == pytest.approx(expected, rel=1e-4, abs=1e-5)
    assert expected["objective/kl_k3"] > 0.1


def losses(step: Step) -> list[dict[str, float]]:
    """Return the losses of both updates, computed in NumPy."""
    raw, items = step.raw, step.rollout.completions
    goal = numpy_ppo.targets(raw, step.ppo)
    return [numpy_ppo.update(made.policy.read(items), raw.before, goal, step.ppo) for made in step.updates]


def test_losses_clip_fractions_and_approx_kl_of_both_updates(step: Step) -> None:
    first, second = losses(step)
    assert first["policy/ratio_deviation"] == first["policy/clip_fraction"] == first["value/clip_fraction"] == 0
    assert 0.05 < second["policy/clip_fraction"] < 0.9 and 0.02 < second["value/clip_fraction"] < 0.9
    expected = {key: (first[key] + second[key]) / 2 for key in first}
    assert {key: step.statistics[key] for key in expected} == pytest.approx(expected, rel=1e-4, abs=1e-5)
    assert step.statistics["policy/updates"] == len(step.updates) == 2
    for group, names in (("value", HEAD), ("policy", step.updates[0].gradients.keys() - HEAD)):
        norms = [np.linalg.norm([made.gradients[name].norm() for name in names]) for made in step.updates]
        assert step.statistics[f"{group}/grad_norm"] == pytest.approx(np.mean(norms), rel=1e-5)


def largest(gradient: torch.Tensor) -> tuple[int, ...]:
    """Return the index of the number that matters most."""
    return tuple(int(place) for place in np.unravel_index(int(gradient.abs().argmax()), gradient.shape))


def finite_difference(step: Step, made: Update, name: str, index: tuple[int, ...]) -> float:
    """Return the derivative of the NumPy loss by one number of the policy, by a central difference."""
    raw, items, found = step.raw, step.rollout.completions, []
    goal = numpy_ppo.targets(raw, step.ppo)
    for size in (1e-5, -1e-5):
        with made.policy.moved(name, index, size):
            report = numpy_ppo.update(made.policy.read(items), raw.before, goal, step.ppo)
        found.append(numpy_ppo.total(report, step.ppo))
    return (found[0] - found[1]) / 2e-5


@pytest.mark.parametrize("name", PARAMETERS)
def test_both_updates_are_adam_on_the_gradient_of_the_numpy_loss(name: str, step: Step) -> None:
    index = largest(step.updates[0].gradients[name])
    gradients = [finite_difference(step, made, name, index) for made in step.updates]
    used = [made.gradients[name][index].item() for made in step.updates]
    assert used == pytest.approx(gradients, rel=1e-3, abs=1e-5)
    assert abs(gradients[0]) > 1e-3

    rate = step.ppo.value_learning_rate if name in HEAD else step.ppo.learning_rate
    weight = step.updates[0].policy.parameter(name)[index].item()
    mean = square = 0.0
    for time, gradient in enumerate(gradients, start=1):  # Kingma and Ba 2015, algorithm 1
        mean, square = 0.9 * mean + 0.1 * gradient, 0.999 * square + 0.001 * gradient**2
        weight -= rate * (mean / (1 - 0.9**time)) / (np.sqrt(square / (1 - 0.999**time)) + 1e-8)
    assert step.after.parameter(name)[index].item() == pytest.approx(weight, abs=1e-3 * rate)
