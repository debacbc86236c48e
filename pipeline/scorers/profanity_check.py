"""alt-profanity-check as installed: a calibrated linear SVM over words, trained on Jigsaw and Davidson et al. (2017).

Its model is two pickles, which run code when they are read. They are read only if they are exactly the pinned files.
"""

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pipeline.config.declarations import ScorerKind
from pipeline.config.fields import Section, Sha256
from pipeline.io.errors import UserError
from pipeline.io.hashing import file_digest
from pipeline.scorers.scoring import fingerprint, score_each


class ProfanityCheckScorer(Section):
    """alt-profanity-check as installed; `files` pins the pickles it loads, by path inside its package."""

    kind: Literal["profanity_check"]
    files: dict[str, Sha256]


PACKAGE = "profanity_check"
PICKLES = (".joblib", ".pickle", ".pkl")
_REMEDY = "reinstall the locked requirements.txt, or pin the new files in the experiment file after reviewing them"


@dataclass(frozen=True)
class ProfanityCheck:
    """Score a text with the probability that it is offensive."""

    name: str
    fingerprint: str
    probabilities: Callable[[Sequence[str]], Sequence[float]]

    def score(self, texts: Sequence[str]) -> list[float | None]:
        """Return the toxicity in [0, 1] of every text, None where the classifier gives no number."""
        return score_each(self.probabilities, texts)

    def cut(self, texts: Sequence[str]) -> list[bool]:
        """Return False for every text: all of it is read."""
        return [False] * len(texts)


def load(name: str, config: ProfanityCheckScorer, *_: object) -> ProfanityCheck:
    """Load the installed package; raise UserError, before any of it is imported, when a pickle is not as pinned."""
    _verify(_package_folder(), config.files)
    from profanity_check import predict_prob

    return ProfanityCheck(name, fingerprint({"kind": config.kind}, config.files), predict_prob)


def _package_folder() -> Path:
    spec = importlib.util.find_spec(PACKAGE)  # finds a top-level package without importing it
    if spec is None or not spec.submodule_search_locations:
        raise UserError(f"{PACKAGE}: the package alt-profanity-check is not installed; install requirements.txt")
    return Path(spec.submodule_search_locations[0])


def _verify(folder: Path, pinned: Mapping[str, str]) -> None:
    present = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.suffix.lower() in PICKLES}
    unpinned = sorted(present - pinned.keys())
    if unpinned:
        raise UserError(f"{PACKAGE}: {', '.join(unpinned)}: not pinned in the scorer's `files`; {_REMEDY}")
    for member, expected in sorted(pinned.items()):
        path = folder / member
        if not path.is_file():
            raise UserError(f"{PACKAGE}/{member}: not found in the installed package; {_REMEDY}")
        found = file_digest(path)
        if found != expected:
            raise UserError(f"{PACKAGE}/{member}: expected sha256 {expected}, got {found}; {_REMEDY}")


# Measured: scikit-learn, its vocabulary and weights.
SCORER = ScorerKind("profanity_check", ProfanityCheckScorer, load, bytes=lambda section: 110 * 10**6)
