"""How long the phases of a step take."""

import functools
import time
from collections.abc import Callable
from typing import Any, Protocol

import torch

from pipeline.policy.types import Policy


class Timed(Protocol):
    """Something with a policy that keeps the seconds of its phases."""

    seconds: dict[str, float]
    policy: Policy


def phase(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the seconds that a method takes to `self.seconds` under the method's name."""

    @functools.wraps(function)
    def timed(self: Timed, *arguments: Any, **keywords: Any) -> Any:
        started = time.perf_counter()
        result = function(self, *arguments, **keywords)
        if self.policy.device.type == "cuda":
            torch.cuda.synchronize(self.policy.device)  # kernels run on after the call that started them has returned
        elapsed = time.perf_counter() - started
        self.seconds[function.__name__] = self.seconds.get(function.__name__, 0.0) + elapsed
        return result

    return timed
