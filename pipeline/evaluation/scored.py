"""One file of scores: what every judge and the fluency model say of one policy's completions of one seed."""

from collections.abc import Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.config.shown import shown
from pipeline.errors import UserError
from pipeline.evaluation import rows
from pipeline.evaluation.rows import FLUENCY, REMEDY, Key, Likely, Score, check_unique, named

NAN = float("nan")


@dataclass
class Digests:
    """The hash of everything that scored, by name, and the file that had it first: it must be one in all files."""

    judges: dict[str, tuple[str, Path]] = field(default_factory=dict)
    fluency: dict[str, tuple[str, Path]] = field(default_factory=dict)


@dataclass(frozen=True)
class Scored:
    """Lists in the order of the completions; NaN where nothing was measured.

    `toxicity` and `cut` by judge; `cut` is 1.0 where the judge saw a part of the text only. `surprise` is the negative
    log-prob a token under the fluency model, in nats, and `surprise_cut` like `cut`; both are
    empty where no fluency model was asked.
    """

    toxicity: dict[str, list[float]]
    cut: dict[str, list[float]]
    surprise: list[float]
    surprise_cut: list[float]


def read(path: Path, keys: list[Key], judges: Sequence[str], fluency: bool, digests: Digests) -> Scored:
    """Read one file as lists in the order of `keys`, with the rows of the fluency model where `fluency` asks for them.

    Raises UserError naming the file when it is malformed, when rows do not match `keys` one to one, and when a judge
    or model is unknown, absent, or not the one of `digests`, which learns those that it lacks.
    """
    found = rows.read_scores(path)
    scores: dict[str, dict[Key, Score]] = {judge: {} for judge in judges}
    likely: dict[Key, Likely] = {}
    for number, row in enumerate(found, start=1):
        if isinstance(row, Likely):
            _check_wanted(f"{path}:{number}", fluency)
            _check_digest(f"{path}:{number}: model_sha256", row.model, row.model_sha256, digests.fluency, path)
            likely[row.key] = row
        else:
            _check_known(f"{path}:{number}", row.judge, judges)
            _check_digest(f"{path}:{number}: judge_sha256", row.judge, row.judge_sha256, digests.judges, path)
            scores[row.judge][row.key] = row
    check_unique(path, ((*row.key, row.judge if isinstance(row, Score) else None) for row in found))
    for judge, by_key in scores.items():
        check_same_keys(path, by_key.keys(), f"the file of completions (judge {judge!r})", set(keys))
    if fluency:
        check_same_keys(path, likely.keys(), "the file of completions (fluency)", set(keys))
    return Scored(
        toxicity={judge: [_number(by_key[key].toxicity) for key in keys] for judge, by_key in scores.items()},
        cut={judge: [_number(by_key[key].cut) for key in keys] for judge, by_key in scores.items()},
        surprise=[_surprise(likely[key]) for key in keys] if fluency else [],
        surprise_cut=[float(likely[key].cut) for key in keys] if fluency else [],
    )


def check_same_keys(path: Path, found: Set[Key], origin: Path | str, expected: Set[Key]) -> None:
    """Raise UserError naming `path` and the first completion that it lacks or should not hold, compared to `origin`."""
    if expected - found:
        others = f" (and holds {named(*min(found - expected))}, which that lacks)" if found - expected else ""
        raise UserError(f"{path}: lacks {named(*min(expected - found))}, which {origin} has{others}; {REMEDY}")
    if found - expected:
        raise UserError(f"{path}: holds {named(*min(found - expected))}, which {origin} lacks; {REMEDY}")


def _check_known(place: str, judge: str, judges: Sequence[str]) -> None:
    if judge not in judges:
        expected = f"expected one of {', '.join(judges)} (score.judges)"
        raise UserError(f"{place}: judge: {expected}, got {shown(judge)}; {REMEDY}")


def _check_wanted(place: str, fluency: bool) -> None:
    if not fluency:
        expected = f"expected no row of {FLUENCY!r}, since perplexity is measured under the base model"
        raise UserError(f"{place}: model: {expected}; {REMEDY}")


def _check_digest(place: str, name: str, digest: str, known: dict[str, tuple[str, Path]], path: Path) -> None:
    first, origin = known.setdefault(name, (digest, path))
    if digest != first:
        raise UserError(
            f"{place}: {name!r} is {digest} here and {first} in {origin}; score both with the same one: run `dvc repro`"
        )


def _number(value: float | bool | None) -> float:
    return NAN if value is None else float(value)


def _surprise(row: Likely) -> float:
    return NAN if row.logprob is None else -row.logprob / row.tokens
