"""What Git's HEAD holds: the lock that counts is the committed one."""

import hashlib
import os
import subprocess
from collections.abc import Iterator

from pipeline.errors import UserError
from pipeline.verify.finding import DIFFERENT, Finding
from pipeline.verify.lock import LOCK

GROUP = "lock"
CODE = ("pipeline", "stages")
_REMEDY = "repair the repository, or the environment that Git runs in"


def committed(path: str) -> bytes | None:
    """Return a file as HEAD holds it; None where it holds none, or where there is no Git repository."""
    done = _git("show", f"HEAD:./{path}")
    return done.stdout if done is not None and done.returncode == 0 else None


def is_committed(path: str, md5: str) -> bool:
    """Tell whether HEAD holds a file of this MD5 at `path`."""
    content = committed(path)
    return content is not None and hashlib.md5(content, usedforsecurity=False).hexdigest() == md5


def why_not_compared() -> str | None:
    """Return why nothing here can be compared with HEAD, None where it can; raise UserError where Git cannot tell."""
    done = _git("rev-parse", "--is-inside-work-tree")
    if done is None:
        return "not compared with HEAD: Git is not installed"
    if done.returncode == 0:
        return None
    message = done.stderr.decode("utf-8", errors="replace")
    if "not a git repository" in message:
        return "not in a Git repository, so that it may be any"
    reason = (message.strip().splitlines() or [f"exit status {done.returncode}"])[0]
    raise UserError(f"{LOCK}: cannot be compared with HEAD: git: {reason[:200]}; {_REMEDY}")


def check_lock() -> Iterator[Finding]:
    """Yield whether dvc.lock is, byte for byte, the committed one: any other could have been made to agree."""
    before = committed(str(LOCK))
    if before == LOCK.read_bytes():
        yield Finding(GROUP, str(LOCK))
        return
    found = "none in HEAD" if before is None else f"another; `git diff HEAD -- {LOCK}` shows how"
    restore = "" if before is None else f", or `git checkout -- {LOCK}`"
    yield Finding(GROUP, str(LOCK), DIFFERENT, "the committed one", found, f"commit it{restore}")


def notes_on_code() -> Iterator[str]:
    """Yield what is told of code that HEAD does not hold as it is here, whether a stage depends on it or not."""
    folders = " ".join(CODE)
    options = ("--no-optional-locks", "status", "--porcelain", "-z", "--no-renames", "--untracked-files=all")
    done = _git(*options, "--", *CODE)
    if done is None or done.returncode:
        yield f"{folders}: not compared with HEAD"
        return
    changed = sorted(line[3:] for line in done.stdout.decode("utf-8", errors="replace").split("\0") if line)
    if changed:
        yield (
            f"code is not as in HEAD in {len(changed)} files, such as {changed[0]}; `git status {folders}` lists them"
        )


def _git(*arguments: str) -> "subprocess.CompletedProcess[bytes] | None":
    """Run Git with messages in English; None where it is not installed."""
    environment = os.environ | {"LC_ALL": "C"}
    try:
        return subprocess.run(["git", *arguments], capture_output=True, check=False, env=environment)
    except FileNotFoundError:
        return None
