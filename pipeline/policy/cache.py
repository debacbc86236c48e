"""Keys and values of what was read, with room for what will be drawn."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor
from transformers import Cache, DynamicCache
from transformers.cache_utils import DynamicLayer


class RoomyLayer(DynamicLayer):
    """One layer's keys and values [B, heads, L, D] in buffers that are longer than L.

    A new token is written into its place; the layer it replaces copies everything before it, at every token.
    """

    def __init__(self, keys: Tensor, values: Tensor, length: int) -> None:
        super().__init__()
        self.dtype, self.device, self.is_initialized = keys.dtype, keys.device, True
        self._buffers = (keys, values)
        self._show(length)

    def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Append keys and values [B, heads, N, D] and return all so far."""
        start = self.get_seq_length()
        end = start + key_states.shape[-2]
        for buffer, states in zip(self._buffers, (key_states, value_states), strict=True):
            buffer[:, :, start:end] = states
        return self._show(end)

    def batch_select_indices(self, indices: Tensor) -> None:
        """Keep these rows only."""
        length = self.get_seq_length()
        self._buffers = (self._buffers[0][indices], self._buffers[1][indices])
        self._show(length)

    def _show(self, length: int) -> tuple[Tensor, Tensor]:
        keys, values = (buffer[:, :, :length] for buffer in self._buffers)
        self.keys, self.values = keys, values
        return keys, values


def join(parts: Sequence[DynamicCache], samples: int, room: int) -> Cache:
    """Join the caches of groups of rows, each row repeated `samples` times, with room for `room` more tokens.

    Shorter groups are padded on the left with zeros, which the attention mask has to hide.
    """
    length = max(part.get_seq_length() for part in parts)
    return Cache(
        layers=[
            RoomyLayer(
                _join([layer.keys for layer in layers], samples, length, room),
                _join([layer.values for layer in layers], samples, length, room),
                length,
            )
            for layers in zip(*(part.layers for part in parts), strict=True)
        ]
    )


def _join(parts: Sequence[Any], samples: int, length: int, room: int) -> Tensor:
    _, heads, _, width = parts[0].shape
    rows = sum(len(part) for part in parts)
    joined: Tensor = parts[0].new_zeros(rows * samples, heads, length + room, width)
    start = 0
    for part in parts:
        end = start + len(part) * samples
        joined[start:end, :, length - part.shape[-2] : length] = part.repeat_interleave(samples, dim=0)
        start = end
    return joined
