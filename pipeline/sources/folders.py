"""L1: paths that cannot leave the folder they are put in."""

import re
from pathlib import PurePosixPath

from pipeline.errors import UserError

_DRIVE_LETTER = re.compile(r"[A-Za-z]:")


def inside(path: str) -> PurePosixPath:
    """Return `path` as a relative path of plain names; raise UserError when it could leave the folder it is put in."""
    parts = path.split("/")
    if "\\" in path or "\0" in path or _DRIVE_LETTER.match(path) or {"", ".", ".."} & set(parts):
        raise UserError(
            f"{path!r} could leave the target folder and is refused; expected plain names joined by single slashes "
            "(no leading /, no .., no backslash, no drive letter)"
        )
    return PurePosixPath(*parts)
