"""Where an optimiser of ours has got to, written without pickles, so that its training goes on to the same bits."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

TENSORS = "state.safetensors"
VALUES = "state.json"


@dataclass(frozen=True)
class OptimizerState:
    """What a training moves as it goes: parameters, optimiser, learning rate, and generators of its own by name."""

    parameters: Sequence[nn.Parameter]
    optimizer: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LambdaLR
    generators: Mapping[str, torch.Generator]

    def write(self, folder: Path, values: Mapping[str, Any]) -> None:
        """Write all of it, with torch's global generators and the training's own `values`; floats exactly."""
        optimizer = self.optimizer.state_dict()
        tensors = {f"parameter.{index}": item.detach() for index, item in enumerate(self.parameters)}
        for index, entries in optimizer["state"].items():
            tensors |= {f"optimizer.{index}.{name}": item for name, item in entries.items()}
        tensors |= {f"generator.{name}": item.get_state() for name, item in self.generators.items()}
        tensors |= _global_generators()
        save_file({name: item.contiguous() for name, item in tensors.items()}, folder / TENSORS)
        schedule = self.schedule.state_dict() | {"lr_lambdas": [None] * len(self.optimizer.param_groups)}
        kept = {"param_groups": optimizer["param_groups"], "schedule": schedule, "values": dict(values)}
        (folder / VALUES).write_text(json.dumps(kept), encoding="utf-8")

    def read(self, folder: Path) -> dict[str, Any]:
        """Put a new training of the same parameters where the written one was; return its own values."""
        tensors = load_file(folder / TENSORS)
        kept = json.loads((folder / VALUES).read_text(encoding="utf-8"))
        with torch.no_grad():
            for index, parameter in enumerate(self.parameters):
                parameter.copy_(tensors[f"parameter.{index}"])
        self.optimizer.load_state_dict({"state": _entries(tensors), "param_groups": kept["param_groups"]})
        self.schedule.load_state_dict(kept["schedule"])
        for name, generator in self.generators.items():
            generator.set_state(tensors[f"generator.{name}"])
        _restore_global_generators(tensors)
        values: dict[str, Any] = kept["values"]
        return values


def _entries(tensors: Mapping[str, Tensor]) -> dict[int, dict[str, Any]]:
    """Return the optimiser's own tensors by parameter."""
    state: dict[int, dict[str, Any]] = {}
    for name, item in tensors.items():
        if name.startswith("optimizer."):
            _, index, entry = name.split(".")
            state.setdefault(int(index), {})[entry] = item
    return state


def _global_generators() -> dict[str, Tensor]:
    """Return the states of torch's generators, which no training of ours draws from, but what comes after may."""
    states = {"generator.cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        states |= {f"generator.cuda.{index}": item for index, item in enumerate(torch.cuda.get_rng_state_all())}
    return states


def _restore_global_generators(tensors: Mapping[str, Tensor]) -> None:
    torch.set_rng_state(tensors["generator.cpu"])
    if torch.cuda.is_available():
        count = sum(name.startswith("generator.cuda.") for name in tensors)
        torch.cuda.set_rng_state_all([tensors[f"generator.cuda.{index}"] for index in range(count)])
