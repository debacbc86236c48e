"""All that a PPO training must remember to go on as if nothing had happened."""

from pathlib import Path

from pipeline.optimizer_state import OptimizerState
from pipeline.ppo.trainer import PPOTrainer


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
