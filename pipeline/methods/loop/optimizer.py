"""AdamW over named parameter groups, saved without pickles so that a training resumes bit for bit."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from pipeline.io.errors import NotFiniteError

TENSORS = "state.safetensors"
VALUES = "state.json"


class Optimizer:
    """Optimise groups of parameters, each with its own peak learning rate and its own gradient norm.

    factor: what the peak rates are multiplied with after so many calls of `advance`.
    """

    def __init__(
        self,
        groups: Mapping[str, Sequence[nn.Parameter]],
        rates: Mapping[str, float],
        factor: Callable[[int], float],
        *,
        max_grad_norm: float,
        weight_decay: float = 0.0,
    ) -> None:
        self.parameters = [parameter for group in groups.values() for parameter in group]
        self._groups, self._max_grad_norm = groups, max_grad_norm
        # epsilon is torch's 1e-8; openai/baselines ppo2 has 1e-5 (Huang et al. 2022, detail 3)
        # Biases and the weights of norms, which have one dimension, do not decay.
        self._adam = torch.optim.AdamW(
            [
                {"params": [item for item in group if (item.ndim > 1) == decays], "lr": rates[name]}
                | {"weight_decay": weight_decay if decays else 0.0}
                for name, group in groups.items()
                for decays in (True, False)
            ]
        )
        self._schedule = torch.optim.lr_scheduler.LambdaLR(self._adam, factor)
        self._held_after, self._held = 0, [parameter.detach().clone() for parameter in self.parameters]

    @property
    def learning_rate(self) -> float:
        """Return the learning rate of the first group at the next update."""
        rate: float = self._adam.param_groups[0]["lr"]
        return rate

    def zero_grad(self) -> None:
        """Drop the gradients."""
        self._adam.zero_grad(set_to_none=True)

    def clip(self) -> dict[str, float]:
        """Scale the gradient of every group down to the largest norm; return `<group>/grad_norm` from before."""
        clip, largest = torch.nn.utils.clip_grad_norm_, self._max_grad_norm
        norms = {name: clip(group, largest) for name, group in self._groups.items()}
        return {f"{name}/grad_norm": norm.item() for name, norm in norms.items()}

    def step(self) -> None:
        """Change the weights by their gradients."""
        self._adam.step()

    def advance(self) -> None:
        """Take the learning rates to their next values."""
        self._schedule.step()

    def hold(self, steps: int) -> None:
        """Remember the weights after so many steps as the last that are known to be good, if all are finite."""
        if steps > 0 and not self.is_finite():
            return
        self._held_after = steps
        for held, parameter in zip(self._held, self.parameters, strict=True):
            held.copy_(parameter.detach())

    def restore(self) -> int:
        """Give the parameters the weights of the last `hold`; return after how many steps that was."""
        with torch.no_grad():
            for parameter, value in zip(self.parameters, self._held, strict=True):
                parameter.copy_(value)
        return self._held_after

    def is_finite(self) -> bool:
        """Return whether all weights are finite."""
        return all(bool(parameter.isfinite().all()) for parameter in self.parameters)

    def write(self, folder: Path, values: Mapping[str, Any]) -> None:
        """Write all of it, with torch's global generators and the training's own `values`; floats exactly."""
        adam = self._adam.state_dict()
        tensors = {f"parameter.{index}": item.detach() for index, item in enumerate(self.parameters)}
        for index, entries in adam["state"].items():
            tensors |= {f"optimizer.{index}.{name}": item for name, item in entries.items()}
        tensors |= _global_generators()
        save_file({name: item.contiguous() for name, item in tensors.items()}, folder / TENSORS)
        schedule = self._schedule.state_dict() | {"lr_lambdas": [None] * len(adam["param_groups"])}
        kept = {"param_groups": adam["param_groups"], "schedule": schedule, "values": dict(values)}
        (folder / VALUES).write_text(json.dumps(kept), encoding="utf-8")

    def read(self, folder: Path) -> dict[str, Any]:
        """Put a new optimiser of the same parameters where the written one was; return the training's own values."""
        tensors = load_file(folder / TENSORS)
        kept = json.loads((folder / VALUES).read_text(encoding="utf-8"))
        with torch.no_grad():
            for index, parameter in enumerate(self.parameters):
                parameter.copy_(tensors[f"parameter.{index}"])
        self._adam.load_state_dict({"state": _entries(tensors), "param_groups": kept["param_groups"]})
        self._schedule.load_state_dict(kept["schedule"])
        _restore_global_generators(tensors)
        values: dict[str, Any] = kept["values"]
        return values


def linear(warmup: int, updates: int) -> Callable[[int], float]:
    """Return the factor of a rate that rises over `warmup` updates and falls to 0, as Transformers' linear one."""

    def factor(done: int) -> float:
        return done / warmup if done < warmup else max(0, updates - done) / max(1, updates - warmup)

    return factor


def check_finite(statistics: Mapping[str, float], prompt_ids: Sequence[str]) -> None:
    """Raise NotFiniteError, naming the prompts, where a loss or a gradient norm is not finite."""
    if not all(map(math.isfinite, statistics.values())):
        raise NotFiniteError("a loss or gradient is not finite", list(dict.fromkeys(prompt_ids)))


def _entries(tensors: Mapping[str, Tensor]) -> dict[int, dict[str, Any]]:
    """Return the optimiser's own tensors by parameter."""
    state: dict[int, dict[str, Any]] = {}
    for name, item in tensors.items():
        if name.startswith("optimizer."):
            _, index, entry = name.split(".")
            state.setdefault(int(index), {})[entry] = item
    return state


def _global_generators() -> dict[str, Tensor]:
    """Return the states of torch's generators, from which dropout is drawn."""
    states = {"generator.cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        states |= {f"generator.cuda.{index}": item for index, item in enumerate(torch.cuda.get_rng_state_all())}
    return states


def _restore_global_generators(tensors: Mapping[str, Tensor]) -> None:
    torch.set_rng_state(tensors["generator.cpu"])
    if torch.cuda.is_available():
        count = sum(name.startswith("generator.cuda.") for name in tensors)
        torch.cuda.set_rng_state_all([tensors[f"generator.cuda.{index}"] for index in range(count)])
