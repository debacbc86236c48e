"""Chat messages in lists, and a preference data set in one file: parquet, as the model hub has them, or JSONL."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from pipeline.config.declarations import DataSet
from pipeline.config.fields import Fraction, Name, RawFile, Section, Source, Text
from pipeline.data.schema import LABELS, LeftOut, PromptRow, damage, point_of, prompt_row, split_of
from pipeline.io import records
from pipeline.io.errors import UserError, shortened, shown


class PromptList(Section):
    """Chat messages of one file below `data/<experiment>/raw`: one a line of a .txt file (`field` null), else `field`.

    `label` tells whether they are hostile or harmful requests, or benign ones that deserve an answer: it is a category
    of every message, as are the list's name and what stands in the field `category`. The range of content hashes is cut
    into eval, train and dev; what the three fractions do not cover is left out.
    """

    file: RawFile
    field: Text | None
    category: Text | None
    label: Literal["hostile", "benign"]
    eval_fraction: Fraction
    dev_fraction: Fraction
    train_fraction: Fraction


class PairFile(Section):
    """A preference data set of one file below `data/<experiment>/raw`, .parquet or .jsonl, and the names of its fields.

    Which of the two answers is the better one is for `preferences.polarity` to say.
    """

    file: RawFile
    prompt: Text
    chosen: Text
    rejected: Text


class ChatData(Section):
    """Chat messages, split by their content, and answers in pairs, whose prompts are all in the train split."""

    dataset: Literal["chat"]
    sources: dict[Name, Source]
    pairs: PairFile | None
    lists: Annotated[dict[Name, PromptList], Field(min_length=1)]


Given = tuple[PromptRow, str | None]


def read(raw: Path, data: ChatData) -> Iterator[Given | LeftOut]:
    """Yield the messages of every list in the split that their content gives them, then the pairs, all to train.

    Messages beyond a list's three fractions are left out. Raises UserError naming file and row of a message or an
    answer that is no text.
    """
    for name, listed in sorted(data.lists.items()):
        for place, values in _messages(raw / listed.file, listed):
            yield _message(place, values, name, listed)
    if data.pairs is not None:
        for place, values in _rows(raw / data.pairs.file):
            yield _pair(place, values, data.pairs), "train"


def _message(place: str, values: Mapping[str, Any], name: str, listed: PromptList) -> Given | LeftOut:
    prompt = _text(place, values, listed.field or "message")
    categories = [listed.label, name]
    if listed.category is not None:
        categories.append(_text(place, values, listed.category))
        if categories[-1] in LABELS:
            raise UserError(f"{place}: {listed.category}: {categories[-1]!r} is a list's label; use another word")
    row = prompt_row(prompt, categories=categories)
    split = split_of(row.id, listed.eval_fraction, listed.dev_fraction)
    # The train split grows next to the eval split, so that a larger one only adds messages.
    is_beyond = split == "train" and point_of(row.id) >= listed.eval_fraction + listed.train_fraction
    return LeftOut(f"{name}_beyond_fractions") if is_beyond else (row, split)


def _pair(place: str, values: Mapping[str, Any], pairs: PairFile) -> PromptRow:
    prompt, chosen, rejected = (_text(place, values, field) for field in (pairs.prompt, pairs.chosen, pairs.rejected))
    return prompt_row(prompt, chosen=chosen, rejected=rejected)


def _text(place: str, values: Mapping[str, Any], field: str) -> str:
    value = values.get(field)
    if not isinstance(value, str):
        found = f"{type(value).__name__}" if field in values else f"no such field among {shown(sorted(values))}"
        raise UserError(f"{place}: {field}: expected text, got {found}; correct the field's name or repair the row")
    if damaged := damage(value):
        raise UserError(f"{place}: {field}: expected text, got {damaged}; repair or remove the row")
    return value


def _messages(path: Path, listed: PromptList) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield place (file:row) and fields of every message; a line of a .txt file is the field `message`."""
    if listed.field is not None:
        yield from _rows(path)
        return
    # Lines end at "\n" alone: a message may hold other characters that Python would also end a line at.
    with records.opened(path, newline="\n") as file:
        number = 0
        for number, line in enumerate(records.lines(file, path), start=1):
            yield f"{path}:{number}", {"message": line.rstrip("\r\n")}
    if not number:
        raise UserError(f"{path}: expected one message a line, found none; {records.REMAKE}")


def _rows(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield place (file:row, from 1) and fields of every row; raise UserError for a file with none."""
    if path.suffix == ".parquet":
        rows = _parquet(path)
    elif path.suffix == ".jsonl":
        rows = records.read_jsonl(path)
    else:
        raise UserError(f"{path}: expected a .parquet or .jsonl file; correct data.lists or data.pairs")
    if not rows:
        raise UserError(f"{path}: expected rows, found none; {records.REMAKE}")
    for number, row in enumerate(rows, start=1):
        yield f"{path}:{number}", row


def _parquet(path: Path) -> list[dict[str, Any]]:
    import pyarrow.parquet

    if not path.is_file():
        raise UserError(f"{path}: not found; correct data.pairs.file or run `dvc repro`")
    try:
        rows: list[dict[str, Any]] = pyarrow.parquet.read_table(path).to_pylist()
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
        reason = str(error).splitlines()[0][:200]
        raise UserError(f"{path}: no parquet file that can be read ({reason}); {records.REMAKE}") from error
    return rows


def rules(file: Any) -> Iterator[str]:
    """Yield what contradicts itself in the section, or between it and the sections that name its files and labels."""
    yield from _lists(file.data)
    yield from _files(file)
    yield from _rates(file)


RATES = {f"refusal_rate_{label}": label for label in LABELS}  # guards


def _lists(data: ChatData) -> Iterator[str]:
    for name, listed in data.lists.items():
        key = f"data.lists.{name}"
        if name in LABELS:
            yield f"{key}: expected another name, since every message has its list's name beside its label; rename it"
        if listed.eval_fraction + listed.dev_fraction + listed.train_fraction > 1 + 1e-9:
            expected = "expected at most 1 together with dev_fraction and train_fraction"
            yield f"{key}.eval_fraction: {expected}; lower one of them"
        if (listed.field is None) != listed.file.endswith(".txt"):
            yield f"{key}.field: expected null for a .txt file and a name for any other; correct it"
        if listed.field is None and listed.category is not None:
            yield f"{key}.category: expected null, since a .txt file has no fields; write null"
    missing = [split for split, share in _shares(data).items() if not share]
    if missing:
        yield (
            f"data.lists: expected prompts for train, dev and eval, got none for {' and '.join(missing)}; correct "
            "their fractions, or add a list"
        )


def _files(file: Any) -> Iterator[str]:
    """Yield files that no source has: they are named by the source's name and what it brings."""
    data: ChatData = file.data
    used = {f"data.lists.{name}.file": listed.file for name, listed in data.lists.items()}
    if data.pairs is not None:
        used["data.pairs.file"] = data.pairs.file
    if file.refusal is not None and file.refusal.labelled is not None:
        used["refusal.labelled.file"] = file.refusal.labelled.file
    for key, path in used.items():
        if path.partition("/")[0] not in data.sources:
            sources = shortened(", ".join(sorted(data.sources)), 300)
            yield f"{key}: expected a file of one of data.sources ({sources}), got {shown(path)}; correct it"


def _rates(file: Any) -> Iterator[str]:
    """Yield guards of refusal rates on prompts that there are none of."""
    evaluated = {listed.label for listed in file.data.lists.values() if listed.eval_fraction > 0}
    for name, label in RATES.items():
        if name in file.evaluate.guards and label not in evaluated:
            yield (
                f"evaluate.guards.{name}: expected prompts of the label {label} in data.lists that are evaluated, got "
                "none; remove the guard or add a list"
            )


def _shares(data: ChatData) -> dict[str, float]:
    lists: list[PromptList] = list(data.lists.values())
    learnt = sum(listed.train_fraction for listed in lists)
    return {
        "train": max(learnt, float(data.pairs is not None)),
        "dev": sum(listed.dev_fraction for listed in lists),
        "eval": sum(listed.eval_fraction for listed in lists),
    }


DATASET = DataSet(
    "chat",
    ChatData,
    read,
    sizes="eval_fraction or dev_fraction in data.lists",
    splits_by_content=False,
    demonstrates=False,
    has_pairs=lambda data: data.pairs is not None,
    rules=rules,
)
