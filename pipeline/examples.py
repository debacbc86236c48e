"""L1: what supervised fine-tuning learns from: a prompt and what is to be said after it, as token ids."""

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.pairs import Pair


@dataclass(frozen=True)
class Example:
    """The ids of one prompt and of its target; EOS is in the target only where the policy or a data set ends it."""

    prompt_ids: list[int]
    target_ids: list[int]


def chosen(pairs: Sequence[Pair]) -> list[Example]:
    """Return the chosen completion of every pair, by the very ids that were sampled."""
    return [Example(pair.prompt_ids, pair.chosen_ids) for pair in pairs]
