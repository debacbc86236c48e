"""The MD5 of what is on disk by DVC's own rules, from the bytes themselves: no state is asked, nothing is written."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.errors import UserError

MD5 = "md5"
FOLDER = ".dir"  # ends the hash of a folder


@dataclass(frozen=True)
class Hashed:
    """The MD5 of a file; of a folder the one that DVC gives it, and those of its files by name."""

    md5: str
    files: Mapping[str, str] = field(default_factory=dict)


class Disk:
    """The working directory as DVC sees it: through .dvcignore."""

    def __init__(self) -> None:
        from dvc.fs import localfs
        from dvc.ignore import DvcIgnoreFilter
        from dvc_data.hashfile.db import HashFileDB
        from dvc_objects.fs.memory import MemoryFileSystem

        self._ignored = DvcIgnoreFilter(localfs, str(Path.cwd()))
        # It has no state, so that a file of the same size and time is read like any other.
        self._nowhere = HashFileDB(MemoryFileSystem(), "verify")

    def hashed(self, path: str) -> Hashed | None:
        """Hash a file or folder anew; None where there is neither. Raises UserError when some of it cannot be read."""
        from dvc.fs import localfs
        from dvc_data.hashfile.build import IgnoreInCollectedDirError, build
        from dvc_data.hashfile.tree import Tree

        place = Path(path).absolute()
        if not place.exists():
            return None
        try:
            _, _, found = build(self._nowhere, str(place), localfs, MD5, dry_run=True, ignore=self._ignored)
        except IgnoreInCollectedDirError:
            raise UserError(f"{path}: expected no .dvcignore inside; remove it") from None
        except OSError as error:
            raise UserError(f"{path}: cannot be read ({error.strerror or error}); repair or remove it") from None
        return Hashed(str(found.hash_info.value), files_of(found) if isinstance(found, Tree) else {})


def files_of(tree: Any) -> dict[str, str]:
    """Return the MD5 of every file of DVC's listing of a folder, by its path below it."""
    return {"/".join(key): str(value.value) for key, _, value in tree}
