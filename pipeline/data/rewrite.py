"""Sentences to be repeated: each is its own demonstration, and the name of its source its category."""

import hashlib
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from pipeline.config.declarations import DataSet
from pipeline.config.fields import Count, Name, Section, Share, Source
from pipeline.config.sections import RawText
from pipeline.data.raw_texts import read_texts, units
from pipeline.data.schema import LeftOut, PromptRow, damage, fraction_rules, normalized, prompt_row
from pipeline.io.errors import UserError


class RewriteText(RawText):
    """Sentences to be repeated, in the split that is named or where their content puts them; `most` limits them.

    Those of `demonstrations` are learnt from by the reference alone and are no prompts of any training.
    """

    split: Literal["content", "train", "demonstrations"]
    most: Count | None


class RewriteData(Section):
    """Sentences of `min_words` to `max_words`, each prompt its own demonstration.

    The reference also learns from `shuffled_copies` of each train sentence with its words in other orders.
    """

    dataset: Literal["rewrite"]
    sources: dict[Name, Source]
    texts: Annotated[dict[Name, RewriteText], Field(min_length=1)]
    min_words: Count
    max_words: Count
    shuffled_copies: Annotated[int, Field(ge=0, le=100)]
    eval_fraction: Share
    dev_fraction: Share


def read(raw: Path, data: RewriteData) -> Iterator[tuple[PromptRow, str | None] | LeftOut]:
    """Yield every sentence of `data.texts` with one space between words, by the order of names, files and sentences.

    Sentences are given the split that their source names, with `content` none. A sentence outside `data.min_words` to
    `data.max_words` is left out, and so is what a source has beyond its `most`. Raises UserError naming a malformed
    file and row, or a source that gives no sentence.
    """
    for name, source in sorted(data.texts.items()):
        split = None if source.split == "content" else source.split
        sentences = _sentences(raw, source, f"data.texts.{name}")
        fitting = [text for text in sentences if data.min_words <= len(text.split()) <= data.max_words]
        if not fitting:
            raise UserError(
                f"{raw / source.file}: expected sentences of {data.min_words} to {data.max_words} words, found none of "
                f"{len(sentences)}; correct data.texts.{name}, data.min_words or data.max_words"
            )
        kept = _drawn(fitting, source.most)
        yield from ((prompt_row(text, categories=[name], demonstrations=[text]), split) for text in kept)
        yield from [LeftOut("other_length")] * (len(sentences) - len(fitting))
        yield from [LeftOut("beyond_most")] * (len(fitting) - len(kept))


def shuffled(rows: Sequence[PromptRow], copies: int) -> list[PromptRow]:
    """Return `copies` of each sentence with its words in other orders: what can only be repeated, and not guessed.

    A small model learns from plain sentences to guess the next word long before it learns to look it up. The orders
    follow from the sentence; one that is a sentence given already is left out.
    """
    made = {row.id: row for row in rows}
    for row in rows:
        for number in range(copies):
            words = row.prompt.split()
            random.Random(f"{row.id}/{number}").shuffle(words)
            text = " ".join(words)
            copy = prompt_row(text, categories=row.categories, demonstrations=[text])
            made.setdefault(copy.id, copy)
    given = {row.id for row in rows}
    return [row for row in made.values() if row.id not in given]


def _sentences(raw: Path, source: RewriteText, key: str) -> list[str]:
    """Return the different sentences of a source, in order."""
    different: dict[str, str] = {}
    for text in read_texts(raw, source, key):
        for unit in units(text, source.unit):
            sentence = " ".join(unit.split())
            if damaged := damage(sentence):
                raise UserError(f"{raw / source.file}: expected sentences, got {damaged}; repair or remove the row")
            different.setdefault(normalized(sentence), sentence)
    return list(different.values())


def _drawn(sentences: Sequence[str], most: int | None) -> Sequence[str]:
    """Return the `most` sentences that content draws, in their order; all where it is None."""
    drawn = set(sorted(sentences, key=_rank)[:most])
    return [text for text in sentences if text in drawn]


def _rank(sentence: str) -> str:
    # Another hash than the one that decides the split: the lowest of that one are all in eval.
    return hashlib.sha256(f"most/{normalized(sentence)}".encode()).hexdigest()


def rules(file: Any) -> Iterator[str]:
    """Yield what contradicts itself in the section."""
    if file.data.min_words > file.data.max_words:
        yield "data.min_words: expected at most data.max_words; correct one of them"
    if all(text.split != "content" for text in file.data.texts.values()):
        yield "data.texts: expected split content of one at least, for dev and eval prompts; correct one"
    yield from fraction_rules(file)


DATASET = DataSet(
    "rewrite", RewriteData, read, further=lambda rows, data: shuffled(rows, data.shuffled_copies), rules=rules
)
