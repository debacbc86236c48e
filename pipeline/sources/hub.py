"""`hub:OWNER/NAME@REVISION` (`hub:datasets/OWNER/NAME@REVISION` for a data set): pinned files of a model hub.

The hub's own cache (HF_HOME) keeps downloads; the hash of every file is ours to check. A pickle is fetched like any
pinned file, but `pipeline.sources.importing` takes no weights from one.
"""

import errno
import logging
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipeline.config.fields import Source
from pipeline.io.errors import UserError
from pipeline.sources import digests
from pipeline.sources.digests import copy_file, inside, require, sha256_of, shown
from pipeline.sources.pins import pinned

logger = logging.getLogger(__name__)

_NAME = r"[A-Za-z0-9_][A-Za-z0-9._-]*"
_URI = re.compile(rf"hub:(?P<dataset>datasets/)?(?P<repo>{_NAME}/{_NAME})(?:@(?P<revision>\S+))?")
# A quoted or weak ETag without anything that means a place.
_PLAIN = re.compile(r'(W/)?"?[A-Za-z0-9+=_-]{1,200}"?')
_MADE_INTO_PATHS = ("ETag", "X-Linked-ETag", "X-Repo-Commit")
_REVISION = re.compile(r"[0-9a-f]{40}")


def fetch(source: Source, folder: Path) -> dict[str, str]:
    """Copy the files that `source.sha256` names into `folder` and return the sha256 of every file.

    Raises UserError for a malformed uri, a revision that is not a commit, a repository or file that is absent,
    gated or out of reach, and another hash than the pinned one.
    """
    repo, kind, revision = _parsed(source)
    if revision is None or not _REVISION.fullmatch(revision):
        found = "none" if revision is None else f"'{shown(revision)}', which can move"
        raise UserError(
            f"expected a commit of 40 hex digits after @, got {found}; `make pin EXPERIMENT=` with its name finds the "
            "commit of main where no revision is written"
        )
    pins = pinned(source)
    assert not isinstance(pins, str)  # _parsed has seen to it
    _distrust_the_server()
    return {file: _copied(repo, kind, revision, file, pin, folder) for file, pin in sorted(pins.items())}


def learn(source: Source) -> Source:
    """Download the named files, of the commit of main where no revision is written; return what they are now.

    Raises UserError as `fetch` does, also for a file that has a hash already and is now another: it learns those that
    are left to fill, and nothing is pinned anew in silence.
    """
    repo, kind, revision = _parsed(source)
    _distrust_the_server()
    files = list(source.sha256) if isinstance(source.sha256, dict) else []
    revision = revision or "main"
    commit = revision if _REVISION.fullmatch(revision) else _commit_of(repo, kind, revision, files[0])
    digests_now: dict[str, str | None] = {}
    for file in files:
        logger.info("%s/%s: fetching", repo, file)
        digest = sha256_of(_downloaded(repo, kind, commit, file, force=False))
        if (pin := source.sha256[file]) is not None:  # type: ignore[index]  # _parsed has seen to the mapping
            require(file, pin, digest)
        digests_now[file] = digest
    return Source(uri=f"{source.uri.partition('@')[0]}@{commit}", sha256=digests_now)


def _parsed(source: Source) -> tuple[str, str, str | None]:
    """Return repository, kind and revision; raise UserError for what no hub can have."""
    match = _URI.fullmatch(source.uri)
    if match is None:
        raise UserError("expected hub:OWNER/NAME@REVISION or hub:datasets/OWNER/NAME@REVISION; correct the uri")
    if not isinstance(source.sha256, dict) or not source.sha256:
        raise UserError("expected sha256 to map every wanted file to its hash; write `sha256: {config.json: ...}`")
    for file in source.sha256:
        inside(file)
    return match["repo"], "dataset" if match["dataset"] else "model", match["revision"]


def _copied(repo: str, kind: str, revision: str, file: str, pin: str, folder: Path) -> str:
    from huggingface_hub import try_to_load_from_cache

    destination = folder / file
    with _told(repo, kind, revision, file):
        cached = try_to_load_from_cache(repo, file, revision=revision, repo_type=kind)
    if isinstance(cached, str):
        if copy_file(Path(cached), destination) == pin:
            logger.info("%s/%s: already there", repo, file)
            return pin
        logger.warning("%s/%s: the hub's cache holds something else than what is pinned", repo, file)
        destination.unlink()
    logger.info("%s/%s: fetching", repo, file)
    digest = copy_file(_downloaded(repo, kind, revision, file, force=isinstance(cached, str)), destination)
    require(file, pin, digest)
    return digest


def _distrust_the_server() -> None:
    """Let every answer of the hub be checked before the library sees it.

    huggingface_hub 2.4 makes paths of the headers ETag and X-Repo-Commit as they come, so a mirror could have it write
    anywhere.
    """
    from huggingface_hub import set_client_factory
    from huggingface_hub.utils._http import default_client_factory

    # It would tell every request with its address, and that of a large file is signed: whoever reads it may fetch.
    logging.getLogger("httpx2").setLevel(logging.WARNING)

    def guarded() -> Any:
        client = default_client_factory()
        client.event_hooks["response"].append(_refuse_harmful)
        return client

    set_client_factory(guarded)


def _refuse_harmful(response: Any) -> None:
    for header in _MADE_INTO_PATHS if response.request.method == "HEAD" else ():
        value = response.headers.get(header)
        if value is not None and not _PLAIN.fullmatch(value):
            raise UserError(
                f"the hub's header {header} '{shown(value)}' could leave its cache and is refused; check HF_ENDPOINT "
                "and use a hub that you trust"
            )
    for header in ("Content-Length", "X-Linked-Size"):
        size = response.headers.get(header, "")
        if size.isdecimal() and int(size) > digests.MAX_FILE_BYTES:
            raise UserError(
                f"the hub announces a file of {int(size):,} bytes, above the bound of {digests.MAX_FILE_BYTES:,}, and "
                "is refused; name smaller files"
            )


def _commit_of(repo: str, kind: str, branch: str, file: str) -> str:
    from huggingface_hub import get_hf_file_metadata, hf_hub_url

    with _told(repo, kind, branch, file):
        commit = get_hf_file_metadata(hf_hub_url(repo, file, repo_type=kind, revision=branch)).commit_hash
    if commit is None or not _REVISION.fullmatch(commit):
        raise UserError(f"the {kind} repository {repo} names no commit of its branch {branch}; check HF_ENDPOINT")
    return commit


def _downloaded(repo: str, kind: str, revision: str, file: str, force: bool) -> Path:
    from huggingface_hub import hf_hub_download

    with _told(repo, kind, revision, file):
        return Path(hf_hub_download(repo, file, repo_type=kind, revision=revision, force_download=force))


@contextmanager
def _told(repo: str, kind: str, revision: str, file: str) -> Iterator[None]:
    """Turn the errors of huggingface_hub into messages of ours: its own may quote a request with its headers."""
    import httpx2
    from huggingface_hub import errors

    try:
        yield
        return
    except errors.HFValidationError:
        problem = "is no name that a hub can have; correct the uri"
    except errors.GatedRepoError:
        problem = "is gated; accept its terms on its page, then set HF_TOKEN or run `hf auth login`"
    except errors.RepositoryNotFoundError:
        problem = (
            "does not exist, or is private; check the spelling (a data set needs the prefix datasets/), or set "
            "HF_TOKEN or run `hf auth login` with an account that may read it"
        )
    except errors.RevisionNotFoundError:
        problem = f"has no commit {revision}; pin one from the history on its page"
    except errors.RemoteEntryNotFoundError:
        problem = f"has no file {file!r} at this commit; correct the keys of sha256"
    except errors.HfHubHTTPError as error:
        problem = f"answered {error.response.status_code} for {file!r}; try again later (401 or 403: check HF_TOKEN)"
    except (httpx2.HTTPError, OSError, ValueError, zlib.error, errors.XetDownloadError) as error:
        if getattr(error, "errno", None) == errno.EFBIG:
            raise
        problem = (
            f"did not give {file!r} ({_reason(error)}); check the network, the proxy, HF_ENDPOINT, the disk, and that "
            "neither HF_HUB_OFFLINE nor TRANSFORMERS_OFFLINE is set"
        )
    raise UserError(f"the {kind} repository {repo} {problem}")


def _reason(error: Exception) -> str:
    from huggingface_hub.errors import FileMetadataError, LocalEntryNotFoundError

    if isinstance(error, LocalEntryNotFoundError) and isinstance(error.__cause__, Exception):
        error = error.__cause__  # the library says that no copy is here either
    response = getattr(error, "response", None)
    if response is not None:
        return f"it answered {response.status_code}"
    if isinstance(error, FileMetadataError):
        return "its answer lacks the ETag or commit that every hub sends"
    if type(error) is OSError and error.errno is None:  # the library's check of what arrived
        return "another size than announced"
    return getattr(error, "strerror", None) or type(error).__name__
