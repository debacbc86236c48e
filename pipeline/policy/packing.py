"""Completions laid out so that a prompt which several of them share is read once, and padding is rare."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from pipeline.policy.types import Completion

# Rows are filled up to the longest group, or to this many tokens: every token of a row is compared with all of it.
_ROW = 128


class Packed(NamedTuple):
    """R rows of L tokens: prompts, each followed by its completions without their last tokens, which nothing follows.

    ids, positions: [R, L], a token and its place in its own sequence. visible: [R, L, L], True where the first token
    sees the second; padding sees padding. before: [N], which of the R x L tokens is the one before each token of the
    completions, completion by completion in the order given.
    """

    ids: Tensor
    positions: Tensor
    visible: Tensor
    before: Tensor


def pack(completions: Sequence[Completion], device: torch.device) -> Packed:
    """Lay out every different prompt once, followed by its completions, none of which sees another."""
    groups: dict[tuple[int, ...], list[int]] = {}
    for index, item in enumerate(completions):
        groups.setdefault(item.prompt.token_ids, []).append(index)
    lengths = {
        prompt: len(prompt) + sum(len(completions[index].token_ids) - 1 for index in group)
        for prompt, group in groups.items()
    }
    rows = _fill(lengths)
    width = max(sum(lengths[prompt] for prompt in row) for row in rows)
    ids, positions, prompt_of, branch_of = (torch.zeros(len(rows), width, dtype=torch.long) for _ in range(4))
    before: dict[int, list[int]] = {}
    for row, prompts in enumerate(rows):
        tokens: list[tuple[int, int, int, int]] = []  # of every token its id, place, prompt, and branch (0: the prompt)
        for number, prompt in enumerate(prompts, start=1):
            tokens += ((token, place, number, 0) for place, token in enumerate(prompt))
            last = row * width + len(tokens) - 1
            for branch, index in enumerate(groups[prompt], start=1):
                read = completions[index].token_ids[:-1]
                begin = row * width + len(tokens)
                before[index] = [last, *range(begin, begin + len(read))]
                tokens += ((token, place, number, branch) for place, token in enumerate(read, start=len(prompt)))
        for target, column in zip((ids, positions, prompt_of, branch_of), zip(*tokens, strict=True), strict=True):
            target[row, : len(tokens)] = torch.tensor(column)
    order = [place for index in range(len(completions)) for place in before[index]]
    visible = _visible(prompt_of.to(device), branch_of.to(device))
    return Packed(ids.to(device), positions.to(device), visible, torch.tensor(order, device=device))


def additive(visible: Tensor, dtype: torch.dtype) -> Tensor:
    """Return a mask [R, 1, L, L] for the attention of Transformers: 0 where visible, else the lowest number."""
    mask = torch.zeros(visible.shape, dtype=dtype, device=visible.device)
    return mask.masked_fill(~visible, torch.finfo(dtype).min)[:, None]


def _fill(lengths: dict[tuple[int, ...], int]) -> list[list[tuple[int, ...]]]:
    """Put groups of these lengths into rows, the longest first, each into the first row that has room."""
    rows: list[list[tuple[int, ...]]] = []
    room: list[int] = []
    for group, length in sorted(lengths.items(), key=lambda item: -item[1]):
        row = next((row for row, left in enumerate(room) if left >= length), len(rows))
        if row == len(rows):
            rows.append([])
            room.append(max(_ROW, *lengths.values()))
        rows[row].append(group)
        room[row] -= length
    return rows


def _visible(prompt_of: Tensor, branch_of: Tensor) -> Tensor:
    """Return [R, L, L]: a token sees itself and those before it of its own prompt and of its own branch."""
    same_prompt = prompt_of[:, :, None] == prompt_of[:, None, :]
    same_branch = (branch_of[:, None, :] == 0) | (branch_of[:, :, None] == branch_of[:, None, :])
    return (same_prompt & same_branch).tril()
