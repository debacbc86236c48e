"""The digest that says whether two scorers are the same one."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any


def fingerprint(settings: Mapping[str, Any], files: Mapping[str, str]) -> str:
    """Return the SHA-256 over a scorer's settings and the digests of what it loads, as 64 hexadecimal digits."""
    text = json.dumps({"files": dict(files), "settings": dict(settings)}, sort_keys=True)
    return hashlib.sha256(text.encode("utf-8")).hexdigest()
