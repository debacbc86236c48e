"""A causal language model without the work that padding, prompts read twice and prompts' vocabulary cost.

TRL's trainers call a model with rows padded to the longest and labels on the completions. On a CPU they then compute
the logits of every position, three times over. Here the rows are laid end to end, a prompt that several rows share is
read once, and there are logits where there are labels: the same numbers up to float rounding.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

IGNORED = -100  # PyTorch's cross entropy leaves these targets out


@dataclass(frozen=True)
class TokenOutputs:
    """What TRL's losses and metrics read of every token but the first, [B, L - 1], zero where there is no label.

    log_probs: nats, with gradient. entropy: nats. mean_logits: over the vocabulary. is_top1: whether the label is the
    likeliest token. label_mask: whether there is a label.
    """

    log_probs: Tensor
    entropy: Tensor
    mean_logits: Tensor
    is_top1: Tensor
    label_mask: Tensor


@dataclass(frozen=True)
class Packed:
    """The N tokens of a batch laid end to end.

    ids, positions: [N], a token and its place in its own row. visible: [N, N], True where token i sees token j.
    places: [B, L], where a token of the batch went; rows that begin with the same prompt share its places.
    """

    ids: Tensor
    positions: Tensor
    visible: Tensor
    places: Tensor


class PackedModel:
    """Answer as a model with TRL's fused language-model head does, called with `labels` and `fused_lm_head=True`."""

    def __init__(self, model: Any) -> None:
        self._model = model

    def __call__(
        self, input_ids: Tensor, attention_mask: Tensor, labels: Tensor, fused_lm_head: bool, use_cache: bool = False
    ) -> TokenOutputs:
        """Read rows [B, L], padded on the right; a row's labels begin where its prompt ends.

        Raises ValueError for what it would misread: padding on the left, or a call that wants the model's own outputs.
        """
        if not fused_lm_head or use_cache or (attention_mask.diff(dim=1) > 0).any():
            raise ValueError("expected rows padded on the right, fused_lm_head=True and use_cache=False")
        packed = pack(input_ids, attention_mask.sum(dim=1).tolist(), labels)
        mask = labels[:, 1:] != IGNORED
        # Hidden states before the labels alone reach the language-model head.
        logits = self._model(
            input_ids=packed.ids[None],
            position_ids=packed.positions[None],
            attention_mask=_additive(packed.visible, self._model.dtype)[None, None],
            logits_to_keep=packed.places[:, :-1][mask],
            use_cache=False,
        ).logits[0]
        found = _statistics(logits.float(), labels[:, 1:][mask])
        log_probs, entropy, mean_logits, is_top1 = (
            item.new_zeros(mask.shape).masked_scatter(mask, item) for item in found
        )
        return TokenOutputs(log_probs, entropy, mean_logits, is_top1, mask)


def pack(input_ids: Tensor, lengths: list[int], labels: Tensor) -> Packed:
    """Lay rows [B, L] of these lengths end to end, each prompt (the tokens before the first label) once."""
    ids: list[int] = []
    positions: list[int] = []
    prompt_of: list[int] = []  # by token: where its prompt begins, which no two prompts share
    row_of: list[int] = []  # by token: the row of a completion's token, -1 in a prompt
    prompts: dict[tuple[int, ...], range] = {}
    places = torch.zeros_like(input_ids)
    starts = (labels != IGNORED).int().argmax(dim=1).tolist()
    for row, (tokens, length, start) in enumerate(zip(input_ids.tolist(), lengths, starts, strict=True)):
        prompt = tuple(tokens[:start])
        if prompt not in prompts:
            prompts[prompt] = range(len(ids), len(ids) + start)
            prompt_of += [len(ids)] * start
            row_of += [-1] * start
            positions += range(start)
            ids += prompt
        own = range(len(ids), len(ids) + length - start)
        prompt_of += [prompts[prompt].start] * len(own)
        row_of += [row] * len(own)
        positions += range(start, length)
        ids += tokens[start:length]
        places[row, :length] = torch.tensor([*prompts[prompt], *own])
    group, branch, position = (torch.tensor(item, device=input_ids.device) for item in (prompt_of, row_of, positions))
    same_row = (branch == -1) | (branch[:, None] == branch)
    visible = (group[:, None] == group) & same_row & (position[:, None] >= position)
    return Packed(torch.tensor(ids, device=input_ids.device), position, visible, places)


def _additive(visible: Tensor, dtype: torch.dtype) -> Tensor:
    """Return a mask for the `sdpa` and `eager` attention of Transformers: 0 where visible, else the lowest number."""
    return torch.zeros(visible.shape, dtype=dtype, device=visible.device).masked_fill(~visible, torch.finfo(dtype).min)


def _statistics(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the targets' log-probabilities [N], and without gradient entropies, mean logits and whether on top."""
    everything = torch.log_softmax(logits, dim=-1)
    with torch.no_grad():
        entropy = -torch.linalg.vecdot(everything.exp(), everything)
        reported = (entropy, logits.mean(dim=-1), logits.argmax(dim=-1) == targets)
    return everything.gather(1, targets[:, None]).squeeze(1), *reported
