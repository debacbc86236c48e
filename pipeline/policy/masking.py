"""Statistics over real tokens only. A completion_mask is True where a token is real, False on padding."""

import torch
from torch import Tensor


def completion_mask(lengths: Tensor, width: int) -> Tensor:
    """Return a [B, width] mask that is True in the first `lengths[b]` columns of row b."""
    return torch.arange(width, device=lengths.device)[None, :] < lengths[:, None]


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Return the mean of `values` where `mask` is True; raise ValueError when it is nowhere True."""
    count = mask.sum()
    if count == 0:
        raise ValueError("masked_mean needs at least one real token")
    return torch.where(mask, values, torch.zeros_like(values)).sum() / count


def masked_whiten(values: Tensor, mask: Tensor, shift_mean: bool = True) -> Tensor:
    """Scale real tokens to variance 1 and, if `shift_mean`, mean 0; padding becomes 0.

    The population variance with 1e-8 under the root, as in openai/lm-human-preferences `whiten`.
    """
    mean = masked_mean(values, mask)
    variance = masked_mean((values - mean) ** 2, mask)
    whitened = (values - mean) * torch.rsqrt(variance + 1e-8)
    if not shift_mean:
        whitened = whitened + mean
    return torch.where(mask, whitened, torch.zeros_like(whitened))
