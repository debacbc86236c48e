"""L1: `hub:OWNER/NAME@REVISION` (`hub:datasets/OWNER/NAME@REVISION` for a data set): pinned files of a model hub.

The hub's own cache (HF_HOME) keeps downloads and resumes broken ones; the hash of every file is ours to check. A
pickle is fetched like any pinned file, but `pipeline.sources.checkpoint` takes no weights from one.
"""

import logging
import re
from pathlib import Path

from pipeline.config.sections import Source
from pipeline.errors import UserError
from pipeline.sources.digests import copy_file, require
from pipeline.sources.folders import inside

logger = logging.getLogger(__name__)

_NAME = r"[A-Za-z0-9_][A-Za-z0-9._-]*"
_URI = re.compile(rf"hub:(?P<dataset>datasets/)?(?P<repo>{_NAME}/{_NAME})@(?P<revision>\S+)")
_REVISION = re.compile(r"[0-9a-f]{40}")


def fetch(source: Source, folder: Path) -> dict[str, str]:
    """Copy the files that `source.sha256` names into `folder` and return the sha256 of every file.

    Raises UserError for a malformed uri, a revision that is not a commit, a repository or file that is absent,
    gated or out of reach, and another hash than the pinned one.
    """
    match = _URI.fullmatch(source.uri)
    if match is None:
        raise UserError("expected hub:OWNER/NAME@REVISION or hub:datasets/OWNER/NAME@REVISION; correct the uri")
    repo, revision, kind = match["repo"], match["revision"], "dataset" if match["dataset"] else "model"
    if not _REVISION.fullmatch(revision):
        raise UserError(
            f"expected a commit of 40 hex digits after @, got {revision!r}, which can move; learn the commit with "
            f"`python -c \"from huggingface_hub import HfApi; print(HfApi().{kind}_info('{repo}').sha)\"`"
        )
    if not isinstance(source.sha256, dict) or not source.sha256:
        raise UserError("expected sha256 to map every wanted file to its hash; write `sha256: {config.json: ...}`")
    for file in source.sha256:
        inside(file)
    return {file: _copied(repo, kind, revision, file, pin, folder) for file, pin in sorted(source.sha256.items())}


def _copied(repo: str, kind: str, revision: str, file: str, pin: str, folder: Path) -> str:
    from huggingface_hub import try_to_load_from_cache

    destination = folder / file
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


def _downloaded(repo: str, kind: str, revision: str, file: str, force: bool) -> Path:
    # Messages are ours throughout: those of the library may quote a request with its headers.
    import httpx2
    from huggingface_hub import errors, hf_hub_download

    try:
        return Path(hf_hub_download(repo, file, repo_type=kind, revision=revision, force_download=force))
    except errors.GatedRepoError:
        problem = "is gated; accept its terms on its page, then set HF_TOKEN or run `hf auth login`"
    except errors.RepositoryNotFoundError:
        problem = (
            "does not exist, or is private; check the spelling (a data set needs the prefix datasets/), or set "
            "HF_TOKEN or run `hf auth login` with an account that may read it"
        )
    except errors.RevisionNotFoundError:
        problem = f"has no commit {revision}; copy one from the history on its page"
    except errors.RemoteEntryNotFoundError:
        problem = f"has no file {file!r} at this commit; correct the keys of sha256"
    except errors.HFValidationError:
        problem = "is no valid name; correct the uri"
    except errors.HfHubHTTPError as error:
        problem = f"answered {error.response.status_code} for {file!r}; try again later (401 or 403: check HF_TOKEN)"
    except (httpx2.HTTPError, OSError, ValueError, errors.XetDownloadError) as error:
        reason = getattr(error, "strerror", None) or type(error.__cause__ or error).__name__
        problem = (
            f"did not give {file!r} ({reason}); check the network, the proxy, HF_ENDPOINT, the disk, and that neither "
            "HF_HUB_OFFLINE nor TRANSFORMERS_OFFLINE is set"
        )
    raise UserError(f"the {kind} repository {repo} {problem}")
