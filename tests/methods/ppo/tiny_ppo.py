"""A PPO trainer of the tiny policy, small enough that a step takes a tenth of a second."""

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from pipeline.methods.ppo.rollout import Rollout
from pipeline.methods.ppo.trainer import PPOTrainer
from pipeline.policy.types import Prompt
from pipeline.scorers.keyword import KeywordScorer, load
from pipeline.scorers.reward import Reward
from tests.policy import tiny_llama

HARSH = load("harsh", KeywordScorer(kind="keyword", keywords=list(tiny_llama.HARSH), saturation=2))
PROMPTS, SAMPLES = 8, 2
ROLLOUT = PROMPTS * SAMPLES
SETTINGS = {
    "steps": 10,
    "prompts_per_step": PROMPTS,
    "samples_per_prompt": SAMPLES,
    "max_new_tokens": 8,
    "minibatch_size": 4,
    "micro_batch_size": 2,
    "epochs": 2,
    "learning_rate": 4e-4,
    "value_learning_rate": 1e-3,
    "warmup_steps": 2,
    "kl_coef": 0.03,
    "kl_target": None,
    "max_approx_kl": None,
    "score_scaling": "none",
    "score_clip": None,
    "missing_eos_penalty": 0.0,
    "whiten_rewards": False,
    "whiten_advantages": True,
}
REWARD = {"name": "harsh", "offset": 1.0, "scale": 2.0}


def section(**changes: Any) -> Any:
    """Return the `ppo` section: SETTINGS with these values changed."""
    return tiny_llama.section("ppo", **(SETTINGS | changes))


def reward_of(toxicity: Any = HARSH.score, **changes: Any) -> Reward:
    """Return a reward for little of this toxicity; `changes` are to REWARD."""
    return Reward(tiny_llama.section("reward", **(REWARD | changes)), HARSH, toxicity)


def trainer_of(
    policy: Any,
    toxicity: Any = HARSH.score,
    reward: Any = REWARD,
    given: Sequence[Prompt] = (),
    seed: int = 0,
    **changes: Any,
) -> PPOTrainer:
    """Return a trainer of the policy on these prompts or those of one step; `changes` are to the `ppo` section."""
    policy.model.eval()  # as `train` does
    ppo = section(**changes)
    return PPOTrainer(policy, reward_of(toxicity, **reward), given or prompts(ppo.prompts_per_step), ppo, seed)


def prompts(count: int = PROMPTS) -> list[Prompt]:
    """Return the prompts of one step."""
    return tiny_llama.prompts(count)


def adapter_of(policy: Any) -> list[Tensor]:
    """Return a copy of the adapter's weights."""
    return [parameter.detach().clone() for parameter in policy.trainable()["adapter"]]


def rollouts_of(trainer: PPOTrainer) -> list[Rollout]:
    """Return a list that every rollout is added to, from the next step on."""
    seen: list[Rollout] = []
    optimise = trainer.optimise
    trainer.optimise = lambda rollout, done: (seen.append(rollout), optimise(rollout, done))[1]
    return seen


def before_updates(trainer: PPOTrainer, look: Callable[[], object]) -> None:
    """Call `look` before every update, when its gradients are there and clipped."""
    update = trainer.optimizer.step
    trainer.optimizer.step = lambda: (look(), update())
