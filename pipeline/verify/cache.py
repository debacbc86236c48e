"""What DVC's cache can give back of what is missing or different, so that a remedy that is named works."""

from collections.abc import Mapping
from pathlib import Path

from pipeline.errors import UserError
from pipeline.verify.hashing import FOLDER, MD5, Hashed, files_of


class Cache:
    """DVC's cache of this repository, read as it lies on disk."""

    def __init__(self) -> None:
        from dvc.cachemgr import CacheManager
        from dvc.config import Config, ConfigError
        from dvc.fs import localfs
        from dvc_data.hashfile.db.local import LocalHashFileDB

        home = Path(".dvc").absolute()
        try:
            settings = Config(str(home))
        except ConfigError as error:
            raise UserError(f".dvc/config: {error}; correct it, or restore it with `git checkout`") from None
        folder = Path(settings.get("cache", {}).get("dir") or home / CacheManager.CACHE_DIR)
        self._objects = LocalHashFileDB(localfs, str(folder / CacheManager.FILES_DIR / MD5))
        self.has_remote = bool(settings.get("core", {}).get("remote"))

    def keeps(self, md5: str) -> bool:
        """Tell whether all of an output is there, with every file hashed again."""
        files = self._files(md5)
        return files is not None and all(self._is_sound(value) for value in files.values())

    def changes(self, md5: str, now: Hashed) -> list[str]:
        """Return how the files of a folder differ from what was recorded, sorted; none where the cache cannot tell."""
        before = self._files(md5) if md5.endswith(FOLDER) and now.md5.endswith(FOLDER) else None
        if before is None:
            return []
        words = {(True, True): "changed", (True, False): "gone", (False, True): "added"}
        names = sorted(name for name in {*before, *now.files} if before.get(name) != now.files.get(name))
        return [f"{words[name in before, name in now.files]} {name}" for name in names]

    def _files(self, md5: str) -> Mapping[str, str] | None:
        """Return the MD5 of the files of an output by name, None where the cache lacks their list."""
        from dvc_data.hashfile.hash_info import HashInfo
        from dvc_data.hashfile.tree import Tree

        if not md5.endswith(FOLDER):
            return {"": md5}
        return files_of(Tree.load(self._objects, HashInfo(MD5, md5))) if self._is_sound(md5) else None

    def _is_sound(self, md5: str) -> bool:
        from dvc_data.hashfile.hash import file_md5

        place = self._objects.oid_to_path(md5)
        return Path(place).is_file() and file_md5(place) == md5.removesuffix(FOLDER)
