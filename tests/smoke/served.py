"""An experiment's sources in the hands of a test: what it names on a hub or a web server stands on loopback."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.sources.hub_server import COMMIT, Hub

Pinned = dict[str, Any]


def pinned(value: Any, hub: Hub, local: Callable[[Pinned], Pinned]) -> Any:
    """Return the parameters with every source at its place on loopback; `local` answers for those of other kinds."""
    if isinstance(value, list):
        return [pinned(item, hub, local) for item in value]
    if not isinstance(value, dict):
        return value
    if value.keys() == {"uri", "sha256"}:
        return _source(value, hub, local)
    return {key: pinned(item, hub, local) for key, item in value.items()}


def _source(source: Pinned, hub: Hub, local: Callable[[Pinned], Pinned]) -> Pinned:
    scheme, _, rest = source["uri"].partition(":")
    if scheme == "hub":
        repository = rest.partition("@")[0]
        # The very files that the experiment asks for: a KeyError is one that the true repository lacks.
        digests = {name: digest(hub.files[f"{repository}/{name}"]) for name in source["sha256"]}
        return {"uri": f"hub:{repository}@{COMMIT}", "sha256": digests}
    if scheme == "url":
        name = rest.rpartition("#")[2].rpartition("/")[2]
        return {"uri": f"url:{hub.url}/releases/{name}", "sha256": digest(hub.releases[name])}
    return local(source)


def served(folder: Path) -> Hub:
    """Return a hub of the files below `folder`: releases/NAME, and OWNER/NAME/FILE of repositories."""
    hub = Hub({path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.glob("*/*/*")})
    hub.releases = {path.name: path.read_bytes() for path in (folder / "releases").iterdir()}
    return hub


def digest(content: bytes) -> str:
    """Return the SHA-256 of a file's content."""
    return hashlib.sha256(content).hexdigest()


def online(hub: Hub, root: Path) -> dict[str, str]:
    """Return the environment of a user whose hub is the one on loopback."""
    here = "127.0.0.1,localhost"
    switches = dict.fromkeys(("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE"), "0")
    return switches | {"HF_ENDPOINT": hub.url, "HF_HOME": str(root / "hub"), "NO_PROXY": here, "no_proxy": here}
