"""L1: paths that cannot leave the folder they are put in, and names that cannot garble a message."""

import re
from pathlib import PurePosixPath

from pipeline.errors import UserError

_DRIVE_LETTER = re.compile(r"[A-Za-z]:")
MAX_NAME_BYTES = 255  # of one file or folder, on every file system that we know
MAX_PATH_BYTES = 1024


def inside(path: str) -> PurePosixPath:
    """Return `path` as a relative path of plain names; raise UserError when it could leave the folder it is put in."""
    parts = path.split("/")
    if "\\" in path or not path.isprintable() or _DRIVE_LETTER.match(path) or {"", ".", ".."} & set(parts):
        raise UserError(
            f"'{shown(path)}' could leave the target folder and is refused; use plain names joined by single slashes "
            "(no leading /, no .., no backslash, no drive letter, no control character)"
        )
    if max(len(part.encode()) for part in parts) > MAX_NAME_BYTES or len(path.encode()) > MAX_PATH_BYTES:
        raise UserError(f"'{shown(path)}' is a longer name than file systems take; name another file")
    return PurePosixPath(*parts)


def shown(text: str, longest: int = 80) -> str:
    """Return somebody else's text as it may stand in a message: one line, no control characters, and cut."""
    escaped = "".join(
        character if character.isprintable() else character.encode("unicode_escape", "surrogatepass").decode()
        for character in " ".join(text.split())
    )
    return escaped if len(escaped) <= longest else escaped[:longest] + "..."
