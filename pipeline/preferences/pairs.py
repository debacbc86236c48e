"""Scored samples of the train prompts, and the chosen/rejected pairs among them."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pipeline.io.errors import UserError
from pipeline.io.records import read_jsonl, write_jsonl
from pipeline.policy.types import Completion, Prompt


@dataclass(frozen=True)
class Sample:
    """One completion, as text and as token ids: those sampled (EOS only if emitted), or a data set's with EOS.

    `toxicity` by the reward scorer, in [0, 1]; None where it is not known.
    """

    text: str
    token_ids: list[int]
    toxicity: float | None


@dataclass(frozen=True)
class PromptSamples:
    """The samples of one prompt; `pairs` are the places of chosen and rejected ones among them."""

    prompt_id: str
    prompt: str
    prompt_ids: list[int]
    samples: list[Sample]
    pairs: list[tuple[int, int]]


@dataclass(frozen=True)
class Pair:
    """A chosen and a rejected completion of one prompt; what people chose may be the more toxic answer."""

    prompt_id: str
    prompt: str
    prompt_ids: list[int]
    chosen: str
    chosen_ids: list[int]
    chosen_toxicity: float | None
    rejected: str
    rejected_ids: list[int]
    rejected_toxicity: float | None

    @property
    def completions(self) -> tuple[Completion, Completion]:
        """Return the chosen and the rejected completion, as a policy analyzes them."""
        prompt = Prompt(self.prompt_id, self.prompt, tuple(self.prompt_ids))
        return Completion.given(prompt, self.chosen_ids), Completion.given(prompt, self.rejected_ids)


def write_samples(path: Path, rows: Sequence[PromptSamples]) -> None:
    """Write one prompt a line, sorted by its id."""
    write_jsonl(path, (asdict(row) for row in sorted(rows, key=lambda row: row.prompt_id)))


def read_samples(path: Path) -> list[PromptSamples]:
    """Read what `write_samples` wrote; raise UserError naming the line that it cannot have written."""
    return [_row(path, number, row) for number, row in enumerate(read_jsonl(path), start=1)]


def pairs_of(rows: Sequence[PromptSamples]) -> list[Pair]:
    """Return all pairs, in order."""
    return [pair for row in rows for pair in _pairs(row)]


def samples_of(pair: Pair) -> PromptSamples:
    """Return a pair of a data set as the two samples that its prompt has."""
    samples = [
        Sample(pair.chosen, pair.chosen_ids, pair.chosen_toxicity),
        Sample(pair.rejected, pair.rejected_ids, pair.rejected_toxicity),
    ]
    return PromptSamples(pair.prompt_id, pair.prompt, pair.prompt_ids, samples, [(0, 1)])


def chosen(pairs: Sequence[Pair]) -> list[Completion]:
    """Return the chosen completion of every pair, by its own token ids."""
    return [pair.completions[0] for pair in pairs]


def _row(path: Path, number: int, row: dict[str, Any]) -> PromptSamples:
    try:
        samples = [Sample(**sample) for sample in row.pop("samples")]
        pairs = [(int(best), int(worst)) for best, worst in row.pop("pairs")]
        if not all(0 <= place < len(samples) for pair in pairs for place in pair):
            raise ValueError("no such sample")
        return PromptSamples(**row, samples=samples, pairs=pairs)
    except (KeyError, TypeError, ValueError):
        raise UserError(
            f"{path}:{number}: expected the scored samples of a prompt; delete it, run `dvc repro`"
        ) from None


def _pairs(row: PromptSamples) -> Iterator[Pair]:
    for best, worst in row.pairs:
        chosen, rejected = row.samples[best], row.samples[worst]
        yield Pair(
            prompt_id=row.prompt_id,
            prompt=row.prompt,
            prompt_ids=row.prompt_ids,
            chosen=chosen.text,
            chosen_ids=chosen.token_ids,
            chosen_toxicity=chosen.toxicity,
            rejected=rejected.text,
            rejected_ids=rejected.token_ids,
            rejected_toxicity=rejected.toxicity,
        )
