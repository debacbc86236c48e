"""All that a PPO training must remember to go on as if nothing had happened, written without pickles."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from pipeline.ppo.trainer import PPOTrainer

TENSORS = "state.safetensors"
VALUES = "state.json"


def write(folder: Path, trainer: PPOTrainer, curves: list[dict[str, float]]) -> None:
    """Write weights, optimiser, generators and every running number after the trainer's last step.

    The prompts drawn so far are the batches of `steps_done` steps: their order depends on the seed alone. Floats are
    written exactly.
    """
    updater, optimizer = trainer.updater, trainer.updater.optimizer.state_dict()
    tensors = {f"parameter.{index}": item.detach() for index, item in enumerate(updater.parameters)}
    for index, entries in optimizer["state"].items():
        tensors |= {f"optimizer.{index}.{name}": item for name, item in entries.items()}
    save_file({name: item.contiguous() for name, item in (tensors | _generators(trainer)).items()}, folder / TENSORS)
    values = {
        "steps_done": trainer.steps_done,
        "param_groups": optimizer["param_groups"],
        "schedule": updater.schedule.state_dict() | {"lr_lambdas": [None] * len(updater.optimizer.param_groups)},
        "kl_coef": trainer.kl.coef,
        "scaling": trainer.scaling.state(),
        "health": trainer.health.state(),
        "curves": curves,
    }
    (folder / VALUES).write_text(json.dumps(values), encoding="utf-8")


def read(folder: Path, trainer: PPOTrainer) -> list[dict[str, float]]:
    """Put a new trainer of the same parameters where the written one was; return the curves up to there."""
    tensors = load_file(folder / TENSORS)
    values = json.loads((folder / VALUES).read_text(encoding="utf-8"))
    with torch.no_grad():
        for index, parameter in enumerate(trainer.updater.parameters):
            parameter.copy_(tensors[f"parameter.{index}"])
    trainer.updater.optimizer.load_state_dict(
        {"state": _optimizer_state(tensors), "param_groups": values["param_groups"]}
    )
    trainer.updater.schedule.load_state_dict(values["schedule"])
    trainer.updater.shuffle.set_state(tensors["generator.shuffle"])
    _restore_global_generators(tensors)
    trainer.kl.coef = values["kl_coef"]
    trainer.scaling.restore(values["scaling"])
    trainer.health.restore(values["health"])
    trainer.steps_done = values["steps_done"]
    trainer.hold_as_good()
    curves: list[dict[str, float]] = values["curves"]
    return curves


def _optimizer_state(tensors: Mapping[str, Tensor]) -> dict[int, dict[str, Any]]:
    state: dict[int, dict[str, Any]] = {}
    for name, item in tensors.items():
        if name.startswith("optimizer."):
            _, index, entry = name.split(".")
            state.setdefault(int(index), {})[entry] = item
    return state


def _generators(trainer: PPOTrainer) -> dict[str, Tensor]:
    """Return the states of every generator: the minibatches' own, and torch's, which no step of ours draws from."""
    states = {"generator.shuffle": trainer.updater.shuffle.get_state(), "generator.cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        states |= {f"generator.cuda.{index}": item for index, item in enumerate(torch.cuda.get_rng_state_all())}
    return states


def _restore_global_generators(tensors: Mapping[str, Tensor]) -> None:
    torch.set_rng_state(tensors["generator.cpu"])
    if torch.cuda.is_available():
        count = sum(name.startswith("generator.cuda.") for name in tensors)
        torch.cuda.set_rng_state_all([tensors[f"generator.cuda.{index}"] for index in range(count)])
