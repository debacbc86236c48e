"""What a model reads of a text: its first tokens, in batches of texts of like length."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from tqdm import tqdm

BATCH_SIZE = 64  # texts, and
BATCH_TOKENS = 64 * 128  # padded tokens at most; both change no number by more than float32 rounding


@dataclass(frozen=True)
class Window:
    """The first `max_tokens` tokens of a text, with the special tokens around it; the rest is not read."""

    tokenizer: Any
    max_tokens: int

    def cut(self, texts: Sequence[str]) -> list[bool]:
        """Return for every text whether it is longer than the window."""
        return [len(self._ids(text, self.max_tokens + 1)["input_ids"]) > self.max_tokens for text in texts]

    def batches(self, texts: Sequence[str], progress: str) -> Iterator[tuple[list[int], Any]]:
        """Yield places in `texts` with the padded tokens of the texts there, the shortest first.

        Texts of like length share a batch, so that padding costs little. `progress` names the bar on a terminal.
        """
        tokens = [self._ids(text, self.max_tokens) for text in texts]
        order = sorted(range(len(texts)), key=lambda index: len(tokens[index]["input_ids"]))
        with tqdm(total=len(texts), desc=progress, unit="text", disable=None, leave=False) as bar:
            for places in _batched(order, [len(tokens[index]["input_ids"]) for index in order]):
                yield places, self.tokenizer.pad([tokens[index] for index in places], return_tensors="pt")
                bar.update(len(places))

    def places(self, texts: Sequence[str]) -> Iterator[list[int]]:
        """Yield the places of `batches` alone, for a library that makes tokens itself."""
        lengths = [len(self._ids(text, self.max_tokens)["input_ids"]) for text in texts]
        order = sorted(range(len(texts)), key=lengths.__getitem__)
        yield from _batched(order, [lengths[index] for index in order])

    def _ids(self, text: str, longest: int) -> Any:
        return self.tokenizer(text, truncation=True, max_length=longest)


def _batched(order: Sequence[int], lengths: Sequence[int]) -> Iterator[list[int]]:
    """Yield parts of `order`, whose `lengths` rise, each as large as a batch may be and of one text at least."""
    batch: list[int] = []
    for index, length in zip(order, lengths, strict=True):
        if batch and (len(batch) == BATCH_SIZE or (len(batch) + 1) * length > BATCH_TOKENS):
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch
