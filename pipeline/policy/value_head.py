"""A scalar value on the policy's own hidden states."""

import torch
from torch import Tensor, nn


class ValueHead(nn.Module):
    """Map hidden states [..., H] to values [...], float32, starting at zero everywhere.

    A zero start makes the first advantages the plain returns instead of noise.
    """

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.linear = nn.Linear(hidden_size, 1, dtype=torch.float32)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, hidden: Tensor) -> Tensor:
        """Return one value a position."""
        values: Tensor = self.linear(hidden.float()).squeeze(-1)
        return values
