"""How long the phases of a step take."""

import functools
import time
from collections.abc import Callable
from typing import Any, Protocol

import torch


class Timed(Protocol):
    """Something that keeps the seconds of its phases."""

    seconds: dict[str, float]


def phase(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the seconds that a method takes to `self.seconds` under the method's name."""

    @functools.wraps(function)
    def timed(self: Timed, *arguments: Any, **keywords: Any) -> Any:
        started = time.perf_counter()
        try:
            return function(self, *arguments, **keywords)
        finally:
            if torch.cuda.is_available():
                torch.cuda.synchronize()  # kernels run on after the call that started them has returned
            elapsed = time.perf_counter() - started
            self.seconds[function.__name__] = self.seconds.get(function.__name__, 0.0) + elapsed

    return timed
