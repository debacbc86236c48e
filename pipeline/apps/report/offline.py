"""The chart library as one script, and a policy that keeps a page from asking for anything else."""

import base64
import functools
import hashlib
import re
from collections.abc import Sequence

from pipeline.io.errors import UserError

# Vega's own compiler makes functions from text, which the policy forbids: `ast` makes it interpret expressions.
_EMBED = """
window.vegaEmbed = (place, spec, options) => vegaEmbed(place, spec, {actions: false, ast: true, ...options});
"""
_CLOSING = re.compile(r"</script|<!--", re.IGNORECASE)


@functools.cache
def chart_library(vegalite: str) -> str:
    """Return Vega, Vega-Lite and Vega-Embed as one script that sets `window.vegaEmbed`.

    `vegalite` is a version such as "6.4" out of those that vl-convert brings along.
    """
    import vl_convert

    return inline(vl_convert.javascript_bundle(_EMBED, vl_version=vegalite))


def inline(script: str) -> str:
    """Return `script` if it can stand between script tags; raise UserError when it would end them early."""
    if _CLOSING.search(script):
        raise UserError(
            "a script holds '</script' or '<!--' and cannot stand in a page; install the versions of requirements.txt"
        )
    return script


def security_policy(scripts: Sequence[str]) -> str:
    """Return a Content-Security-Policy under which exactly these scripts run and nothing is ever requested.

    Scripts go by their hash, so that neither an injected script element nor an event handler in an attribute runs.
    """
    digests = (hashlib.sha256(script.encode()).digest() for script in scripts)
    hashes = " ".join(f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests)
    return (
        f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
