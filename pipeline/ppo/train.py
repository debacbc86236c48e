"""The loop around the PPO step: which prompts, how often, what is kept."""

import time
from collections.abc import Callable, Iterator, Sequence

import torch
from tqdm import trange

from pipeline.config.sections import PPOSection, RewardSection
from pipeline.errors import UserError
from pipeline.policy.types import Policy, Prompt
from pipeline.ppo.trainer import PPOTrainer, Score

Report = Callable[[int, dict[str, float]], None]


def train(
    policy: Policy,
    prompts: Sequence[Prompt],
    toxicity: Score,
    ppo: PPOSection,
    reward: RewardSection,
    seed: int,
    report: Report,
) -> list[dict[str, float]]:
    """Train the policy in place and return one row of statistics a step, with `step` from 1.

    `report` is called with the step and its statistics plus `time/tokens_per_second`, which stays out of the
    returned rows: they are a DVC output and must not differ between runs.
    """
    trainer = PPOTrainer(policy, toxicity, ppo, reward, seed, batch_size=ppo.prompts_per_step * ppo.samples_per_prompt)
    batches = endless_batches(prompts, ppo.prompts_per_step, seed)
    rows: list[dict[str, float]] = []
    bar = trange(1, ppo.steps + 1, desc="ppo", unit="step")
    for step in bar:
        started = time.monotonic()
        statistics = trainer.step(next(batches))
        tokens = statistics["objective/length"] * ppo.prompts_per_step * ppo.samples_per_prompt
        report(step, statistics | {"time/tokens_per_second": tokens / (time.monotonic() - started)})
        bar.set_postfix(score=f"{statistics['objective/score']:.3f}", kl=f"{statistics['objective/kl']:.2f}")
        rows.append({"step": step, **statistics})
    return rows


def endless_batches(prompts: Sequence[Prompt], size: int, seed: int) -> Iterator[list[Prompt]]:
    """Yield batches of different prompts, all prompts in a new order each time around; the seed alone decides it.

    What is left over at the end of a round is not used: a prompt twice in a batch would get the same noise twice.
    Raises UserError when there are fewer than `size` prompts.
    """
    if len(prompts) < size:
        raise UserError(f"ppo.prompts_per_step: expected at most the {len(prompts)} train prompts, got {size}")
    generator = torch.Generator().manual_seed(seed)
    while True:
        order = torch.randperm(len(prompts), generator=generator)
        for indices in order[: len(prompts) - len(prompts) % size].split(size):
            yield [prompts[index] for index in indices.tolist()]
