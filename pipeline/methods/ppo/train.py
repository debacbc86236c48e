"""The loop around the PPO step: which prompts, how often, what is kept, and going on from a checkpoint."""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import torch
from tqdm import tqdm

from pipeline.io.errors import NotFiniteError, UserError
from pipeline.methods.loop.checkpoints import Checkpoints
from pipeline.methods.loop.optimizer_state import OptimizerState
from pipeline.methods.ppo import PPOSection
from pipeline.methods.ppo.health import CAUSES
from pipeline.methods.ppo.trainer import PPOTrainer
from pipeline.policy.types import Policy, Prompt
from pipeline.scorers.reward import Reward

Report = Callable[[int, dict[str, float]], None]


class Trained(NamedTuple):
    """curves: one row of statistics a step, with `step` from 1. health: cause -> number of steps that had it."""

    curves: list[dict[str, float]]
    health: dict[str, int]


def train(
    policy: Policy,
    prompts: Sequence[Prompt],
    reward: Reward,
    ppo: PPOSection,
    seed: int,
    checkpoints: Checkpoints,
    report: Report,
) -> Trained:
    """Train the policy in place and tell how it went.

    `report` is called with every step and its statistics, and with seconds and tokens a second, which stay out of
    what is returned: that is a DVC output and must not differ between runs. The training continues from its newest
    checkpoint, if there is one, and ends with the very weights of one that was never interrupted. Raises
    NotFiniteError, with the policy put back to the last step whose weights could be sampled from, when weights, loss
    or gradient are no numbers.
    """
    trainer = PPOTrainer(policy, reward, ppo, seed, batch_size=ppo.prompts_per_step * ppo.samples_per_prompt)
    latest = checkpoints.latest()
    curves = read(latest.folder, trainer) if latest else []
    done = trainer.steps_done
    batches = islice(endless_batches(prompts, ppo.prompts_per_step, seed), done, None)
    warned: set[str] = set()
    bar = tqdm(range(done + 1, ppo.steps + 1), desc="ppo", unit="step", initial=done, total=ppo.steps)
    for step in bar:
        try:
            statistics = trainer.step(next(batches))
        except NotFiniteError as error:
            message = f"{error}; put back to step {trainer.restore_last_good()}"
            raise NotFiniteError(message, error.prompt_ids) from None
        causes = trainer.health.check(statistics)
        statistics |= {f"health/{cause}": float(cause in causes) for cause in CAUSES}
        report(step, statistics | _speed(trainer, statistics))
        for cause in sorted(set(causes) - warned):
            tqdm.write(f"ppo step {step}: {cause}: {CAUSES[cause]}", file=sys.stderr)
        warned = set(causes)  # what lasts is told once
        bar.set_postfix(score=f"{statistics['objective/score']:.3f}", kl=f"{statistics['objective/kl']:.2f}")
        curves.append({"step": step, **statistics})
        if checkpoints.is_due(step, ppo.steps) and trainer.is_finite():
            checkpoints.keep(step, lambda folder: write(folder, trainer, curves))
    return Trained(curves, dict(trainer.health.seen))


def _speed(trainer: PPOTrainer, statistics: Mapping[str, float]) -> dict[str, float]:
    """Return seconds by phase and the completions' tokens a second of the step that was just made."""
    drawn = trainer.ppo.prompts_per_step * trainer.ppo.samples_per_prompt
    completions = drawn - statistics["objective/unscored"]
    whole = sum(trainer.seconds.values())
    speed = {"time/tokens_per_second": statistics["objective/length"] * completions / whole}
    return speed | {f"time/{phase}": seconds for phase, seconds in trainer.seconds.items()}


def endless_batches(prompts: Sequence[Prompt], size: int, seed: int) -> Iterator[list[Prompt]]:
    """Yield batches of different prompts, all prompts in a new order each time around; the seed alone decides it.

    What is left over at the end of a round is not used: a prompt twice in a batch would get the same noise twice.
    Raises UserError when there are fewer than `size` prompts.
    """
    if len(prompts) < size:
        raise UserError(
            f"methods.ppo.prompts_per_step: expected at most the {len(prompts)} train prompts, got {size}; lower it"
        )
    generator = torch.Generator().manual_seed(seed)
    while True:
        order = torch.randperm(len(prompts), generator=generator)
        for indices in order[: len(prompts) - len(prompts) % size].split(size):
            yield [prompts[index] for index in indices.tolist()]


def write(folder: Path, trainer: PPOTrainer, curves: list[dict[str, float]]) -> None:
    """Write weights, optimiser, generators and every running number after the trainer's last step.

    The prompts drawn so far are the batches of `steps_done` steps: their order depends on the seed alone.
    """
    values = {
        "steps_done": trainer.steps_done,
        "kl_coef": trainer.kl.coef,
        "scaling": trainer.scaling.state(),
        "health": trainer.health.state(),
        "curves": curves,
    }
    _state(trainer).write(folder, values)


def read(folder: Path, trainer: PPOTrainer) -> list[dict[str, float]]:
    """Put a new trainer of the same parameters where the written one was; return the curves up to there."""
    values = _state(trainer).read(folder)
    trainer.kl.coef = values["kl_coef"]
    trainer.scaling.restore(values["scaling"])
    trainer.health.restore(values["health"])
    trainer.steps_done = values["steps_done"]
    trainer.hold_as_good()
    curves: list[dict[str, float]] = values["curves"]
    return curves


def _state(trainer: PPOTrainer) -> OptimizerState:
    updater = trainer.updater
    return OptimizerState(updater.parameters, updater.optimizer, updater.schedule, {"shuffle": updater.shuffle})
