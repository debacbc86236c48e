"""Completions laid out so that a prompt which several of them share is read once, and padding is rare."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from pipeline.policy.types import Completion

# Rows are filled up to the longest group, or to this many tokens: every token of a row is compared with all of it.
_ROW = 128
_LONGEST = 1024  # tokens of a prompt and those of its completions that share it


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


@dataclass
class _Group:
    """A prompt, which of the completions it has in this group, and their tokens together."""

    prompt: tuple[int, ...]
    completions: list[int]
    length: int


def saves_reading(completions: Sequence[Completion]) -> bool:
    """Tell whether there is anything to gain: a prompt that is shared, or texts short enough to share a row."""
    shared = len({item.prompt.token_ids for item in completions}) < len(completions)
    return shared or max(len(item.prompt.token_ids) + len(item.token_ids) for item in completions) <= _ROW


def pack(completions: Sequence[Completion], device: torch.device) -> Packed:
    """Lay out every different prompt once, followed by its completions, none of which sees another.

    Raises ValueError for a prompt or a completion without tokens.
    """
    rows = _fill(_groups(completions))
    width = max(sum(group.length for group in row) for row in rows)
    ids, positions, prompt_of, branch_of = (torch.zeros(len(rows), width, dtype=torch.long) for _ in range(4))
    before: dict[int, list[int]] = {}
    for row, groups in enumerate(rows):
        tokens: list[tuple[int, int, int, int]] = []  # of every token its id, place, prompt, and branch (0: the prompt)
        for number, group in enumerate(groups, start=1):
            tokens += ((token, place, number, 0) for place, token in enumerate(group.prompt))
            last = row * width + len(tokens) - 1
            for branch, index in enumerate(group.completions, start=1):
                read = completions[index].token_ids[:-1]
                begin = row * width + len(tokens)
                before[index] = [last, *range(begin, begin + len(read))]
                tokens += ((token, place, number, branch) for place, token in enumerate(read, start=len(group.prompt)))
        for target, column in zip((ids, positions, prompt_of, branch_of), zip(*tokens, strict=True), strict=True):
            target[row, : len(tokens)] = torch.tensor(column)
    order = [place for index in range(len(completions)) for place in before[index]]
    visible = _visible(prompt_of.to(device), branch_of.to(device))
    return Packed(ids.to(device), positions.to(device), visible, torch.tensor(order, device=device))


def _groups(completions: Sequence[Completion]) -> list[_Group]:
    """Gather the completions of each prompt; a prompt has several groups where one would be longer than _LONGEST."""
    groups: list[_Group] = []
    newest: dict[tuple[int, ...], _Group] = {}
    for index, item in enumerate(completions):
        prompt, read = item.prompt.token_ids, len(item.token_ids) - 1
        if not prompt or read < 0:
            raise ValueError(f"expected at least one token of prompt and completion (prompt {item.prompt.id})")
        group = newest.get(prompt)
        if group is None or group.length + read > _LONGEST:
            newest[prompt] = group = _Group(prompt, [], len(prompt))
            groups.append(group)
        group.completions.append(index)
        group.length += read
    return groups


def additive(visible: Tensor, dtype: torch.dtype) -> Tensor:
    """Return a mask [R, 1, L, L] for the attention of Transformers: 0 where visible, else the lowest number."""
    mask = torch.full(visible.shape, torch.finfo(dtype).min, dtype=dtype, device=visible.device)
    return mask.masked_fill_(visible, 0.0)[:, None]


def _fill(groups: Sequence[_Group]) -> list[list[_Group]]:
    """Put the groups into rows, the longest first, each into the first row that has room."""
    rows: list[list[_Group]] = []
    room: list[int] = []
    for group in sorted(groups, key=lambda group: -group.length):
        row = next((row for row, left in enumerate(room) if left >= group.length), len(rows))
        if row == len(rows):
            rows.append([])
            room.append(max(_ROW, max(group.length for group in groups)))
        rows[row].append(group)
        room[row] -= group.length
    return rows


def _visible(prompt_of: Tensor, branch_of: Tensor) -> Tensor:
    """Return [R, L, L]: a token sees itself and those before it of its own prompt and of its own branch."""
    same_prompt = prompt_of[:, :, None] == prompt_of[:, None, :]
    same_branch = (branch_of[:, None, :] == 0) | (branch_of[:, :, None] == branch_of[:, None, :])
    return (same_prompt & same_branch).tril()
