"""All checks in one order, and what is told besides."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

from pipeline import paths
from pipeline.config import Roster, load, load_roster
from pipeline.errors import UserError
from pipeline.verify import manifests, results
from pipeline.verify.declared import check_parameters, check_stages
from pipeline.verify.finding import DIFFERENT, MISSING, OK, Finding
from pipeline.verify.hashing import Hashed
from pipeline.verify.head import check_lock, notes_on_code, why_not_compared
from pipeline.verify.installed import check_environment, check_pickles
from pipeline.verify.lock import LOCK, Declared, Recorded, read_dag, read_lock
from pipeline.verify.recorded import Paths, check_contents, hash_all

Saying = Callable[[str], AbstractContextManager[object]]


@dataclass(frozen=True)
class Verified:
    """Every finding, and notes that are no fault."""

    findings: list[Finding]
    notes: list[str] = field(default_factory=list)

    def faults(self, allow_missing: bool = False) -> list[Finding]:
        """Return what is not as recorded; `allow_missing` lets DVC's outputs be absent, as before `dvc pull`."""
        return [one for one in self.findings if one.state != OK and not (allow_missing and one.pullable)]


def check(experiments: Sequence[str], watched: Paths, saying: Saying) -> Verified:
    """Check these experiments of the roster, or all of it where none is named.

    `watched` is given the paths that are hashed and yields them; `saying` is entered with what takes long. Raises
    UserError for an unknown experiment and for files that cannot be read as what they are.
    """
    roster = load_roster()
    unknown = sorted(set(experiments) - set(roster.experiments))
    if unknown:
        raise UserError(
            f"{', '.join(unknown)}: expected experiments of {paths.roster_file()} ({', '.join(roster.experiments)}); "
            "correct the name, or add it to the roster"
        )
    chosen = [name for name in roster.experiments if not experiments or name in experiments]
    lock, dag = read_lock(), read_dag()
    declared = {name: entry for name, entry in dag.items() if entry.experiment in chosen}
    named = [lock[name] for name in declared if name in lock]
    others = [] if experiments else [entry for name, entry in lock.items() if name not in dag]
    found = hash_all([*named, *others], watched)
    reason = why_not_compared()
    findings = [
        *(() if reason else check_lock()),
        *check_stages(declared, lock),
        *check_parameters(named),
        *check_contents(named, declared, found),
        *check_environment(),
        *(one for experiment in chosen for one in _of_experiment(experiment, roster, saying)),
    ]
    notes = [f"{LOCK}: {reason}"] if reason else notes_on_code()
    return Verified(findings, [*notes, *_of_others(others, dag, found)])


def _of_experiment(experiment: str, roster: Roster, saying: Saying) -> Iterator[Finding]:
    with saying(f"{experiment}: hashing what was downloaded"):
        yield from list(manifests.check_sources(experiment, load(experiment, manifests.SECTIONS)))
        yield from list(check_pickles(experiment, load(experiment, manifests.SECTIONS)))
    with saying(f"{experiment}: hashing adapters"):
        yield from list(results.check_adapters(experiment, roster))
    with saying(f"{experiment}: computing the evaluation from the stored scores"):
        yield from list(results.check_metrics(experiment, roster, load(experiment, results.SECTIONS)))


def _of_others(
    others: Sequence[Recorded], dag: Mapping[str, Declared], found: Mapping[str, Hashed | None]
) -> Iterable[str]:
    if others:
        states = [one.state for one in check_contents(others, dag, found)]
        counts = ", ".join(f"{states.count(state)} {state}" for state in (OK, MISSING, DIFFERENT))
        yield (
            f"{LOCK} holds {len(others)} entries that {paths.roster_file()} does not name, such as {others[0].name}: "
            f"of their inputs and outputs {counts}; they come back when they are named again"
        )
