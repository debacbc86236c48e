"""The word filter: counts the words and phrases of a downloaded list. It knows words and no meaning."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from pipeline.config.declarations import ScorerKind
from pipeline.config.fields import Count, Section, Source
from pipeline.io.errors import UserError
from pipeline.io.hashing import file_digest
from pipeline.scorers.scoring import HitScorer, fingerprint


class WordListScorer(Section):
    """Whole words and phrases of a downloaded list: min(1, hits / saturation). A transparent filter."""

    kind: Literal["word_list"]
    source: Source
    saturation: Count


# A place that does not lie inside a word: a letter or digit on one side at most. `\b` would not do, since it asks for
# one on exactly one side, and so never finds a listed symbol between spaces; and it takes _this_ for one word.
_EDGE = r"(?:(?<![^\W_])|(?![^\W_]))"
LARGEST = 2**20  # bytes of a list: every text is searched for every phrase
LONGEST = 200  # characters of a line
_REMEDY = "correct the scorer's source, or delete the folder and run `dvc repro` to fetch it again"


def load(name: str, config: WordListScorer, folder: Path, *_: object) -> HitScorer:
    """Return the scorer of the one .txt file below `folder`: a phrase a line, UTF-8; blank lines are none.

    A hit is a whole phrase in any case, whatever space or punctuation stands around it and whatever space between its
    words; where two listed phrases share words, the longer one is the hit. Raises UserError when there is no such list.
    """
    path = _list_file(folder)
    pattern = _pattern(_read_phrases(path))

    def count(text: str) -> int:
        return sum(1 for _ in pattern.finditer(text))

    settings = {"kind": config.kind, "saturation": config.saturation}
    return HitScorer(name, fingerprint(settings, {"words": file_digest(path)}), count, config.saturation)


def _list_file(folder: Path) -> Path:
    files = sorted(path for path in folder.rglob("*.txt") if path.is_file())
    if len(files) != 1:
        found = ", ".join(path.relative_to(folder).as_posix() for path in files) or "none"
        raise UserError(f"{folder}: expected one .txt file with a word or phrase a line, found {found}; {_REMEDY}")
    return files[0]


def _read_phrases(path: Path) -> set[str]:
    if path.stat().st_size > LARGEST:
        raise UserError(f"{path}: expected at most {LARGEST:,} bytes, got {path.stat().st_size:,}; {_REMEDY}")
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: expected UTF-8 text, got {error}; {_REMEDY}") from None
    for number, line in enumerate(lines, start=1):
        if len(line) > LONGEST or "\0" in line:
            found = "a NUL" if "\0" in line else f"{len(line):,} characters"
            raise UserError(f"{path}:{number}: expected at most {LONGEST} characters of text, got {found}; {_REMEDY}")
    phrases = {" ".join(line.casefold().split()) for line in lines} - {""}
    if not phrases:
        raise UserError(f"{path}: expected a word or phrase a line, found none; {_REMEDY}")
    return phrases


def _pattern(phrases: Iterable[str]) -> re.Pattern[str]:
    """Return one expression of all phrases, the longest first, since the first that fits is taken."""
    ordered = sorted(phrases, key=lambda phrase: (-len(phrase), phrase))
    spelled = (r"\s+".join(re.escape(word) for word in phrase.split()) for phrase in ordered)
    return re.compile(f"{_EDGE}(?:{'|'.join(spelled)}){_EDGE}")


SCORER = ScorerKind("word_list", WordListScorer, load, bytes=lambda section: 0)
