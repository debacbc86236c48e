"""One file of scores: what judges, fluency model and judge of refusals say of one policy's completions of one seed."""

from collections.abc import Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.evaluation import rows
from pipeline.evaluation.rows import FLUENCY, REFUSAL, REMEDY, Key, Likely, Refused, Score, check_unique, named
from pipeline.io.errors import UserError, shown

NAN = float("nan")


@dataclass
class Digests:
    """The hash of everything that scored, by name, and the file that had it first: it must be one in all files."""

    judges: dict[str, tuple[str, Path]] = field(default_factory=dict)
    fluency: dict[str, tuple[str, Path]] = field(default_factory=dict)
    refusal: dict[str, tuple[str, Path]] = field(default_factory=dict)


@dataclass(frozen=True)
class Scored:
    """Lists in the order of the completions; NaN where nothing was measured.

    `toxicity` and `cut` by judge; `cut` is 1.0 where the judge saw a part of the text only. `surprise` is the negative
    log-prob a token under the fluency model, in nats, and `surprise_cut` like `cut`; both are
    empty where no fluency model was asked. `refusal` is 1.0 where a completion declines to answer; it is empty where
    refusals are not judged.
    """

    toxicity: dict[str, list[float]]
    cut: dict[str, list[float]]
    surprise: list[float]
    surprise_cut: list[float]
    refusal: list[float]


@dataclass
class _Sorted:
    """The rows of one file by what they are of, each by its key."""

    scores: dict[str, dict[Key, Score]]
    likely: dict[Key, Likely] = field(default_factory=dict)
    refused: dict[Key, Refused] = field(default_factory=dict)


def read(path: Path, keys: list[Key], judges: Sequence[str], fluency: bool, refusal: bool, digests: Digests) -> Scored:
    """Read one file as lists in the order of `keys`, with the rows that `fluency` and `refusal` ask for.

    Raises UserError naming the file when it is malformed, when rows do not match `keys` one to one, and when a judge
    or model is unknown, absent, or not the one of `digests`, which learns those that it lacks.
    """
    found = _sorted(path, judges, fluency, refusal, digests)
    for judge, by_key in found.scores.items():
        check_same_keys(path, by_key.keys(), f"the file of completions (judge {judge!r})", set(keys))
    if fluency:
        check_same_keys(path, found.likely.keys(), "the file of completions (fluency)", set(keys))
    if refusal:
        check_same_keys(path, found.refused.keys(), "the file of completions (refusal)", set(keys))
    return Scored(
        toxicity={judge: [_number(by_key[key].toxicity) for key in keys] for judge, by_key in found.scores.items()},
        cut={judge: [_number(by_key[key].cut) for key in keys] for judge, by_key in found.scores.items()},
        surprise=[_surprise(found.likely[key]) for key in keys] if fluency else [],
        surprise_cut=[float(found.likely[key].cut) for key in keys] if fluency else [],
        refusal=[_number(found.refused[key].refusal) for key in keys] if refusal else [],
    )


def _sorted(path: Path, judges: Sequence[str], fluency: bool, refusal: bool, digests: Digests) -> _Sorted:
    """Sort the rows of one file; raise UserError at one that is not asked for, twice there, or of another scorer."""
    found = rows.read_scores(path)
    kept = _Sorted({judge: {} for judge in judges})
    for number, row in enumerate(found, start=1):
        place = f"{path}:{number}"
        match row:
            case Likely():
                _check_wanted(f"{place}: model", FLUENCY, fluency, "perplexity is measured under the base model")
                _check_digest(f"{place}: model_sha256", row.model, row.model_sha256, digests.fluency, path)
                kept.likely[row.key] = row
            case Refused():
                _check_wanted(f"{place}: refusal", REFUSAL, refusal, "the experiment judges no refusals")
                _check_digest(f"{place}: refusal_sha256", REFUSAL, row.refusal_sha256, digests.refusal, path)
                kept.refused[row.key] = row
            case Score():
                _check_known(place, row.judge, judges)
                _check_digest(f"{place}: judge_sha256", row.judge, row.judge_sha256, digests.judges, path)
                kept.scores[row.judge][row.key] = row
    check_unique(path, (_identity(row) for row in found))
    return kept


def _identity(row: Score | Likely | Refused) -> tuple[object, ...]:
    """Return what no other row of the file may have too: the completion and who scored it."""
    match row:
        case Score():
            return *row.key, row.judge
        case Likely():
            return *row.key, None
        case Refused():
            return *row.key, None, REFUSAL


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


def _check_wanted(place: str, name: str, wanted: bool, since: str) -> None:
    if not wanted:
        raise UserError(f"{place}: expected no row of {name!r}, since {since}; {REMEDY}")


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
