"""Compare what is on disk with what was recorded: `python -m pipeline.apps.verify [EXPERIMENT ...]`."""

import sys
from collections.abc import Iterable, Iterator, Sequence
from functools import partial

from rich import box
from rich.console import Console, Group, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from pipeline.apps.verify.checking import Verified, check
from pipeline.apps.verify.finding import NAMED, STATES, Finding
from pipeline.io.errors import Arguments, UserError


def main(arguments: Sequence[str] | None = None) -> None:
    """Check and print; exit with 1 when something is not as recorded, with 2 and one message on bad input."""
    parser = Arguments(prog="python -m pipeline.apps.verify", description=__doc__)
    parser.add_argument("experiments", metavar="EXPERIMENT", nargs="*", help="of the roster; default: all of it")
    parser.add_argument(
        "--allow-missing", action="store_true", help="outputs that DVC keeps may be absent, as before `dvc pull`"
    )
    parsed = parser.parse_args(arguments)
    progress, console = Console(stderr=True), Console()
    try:
        verified = check(parsed.experiments, partial(watched, console=progress), progress.status)
    except UserError as error:
        print(f"verify: {error}", file=sys.stderr)
        sys.exit(2)
    console.print(text(verified, parsed.allow_missing), soft_wrap=True)
    sys.exit(1 if verified.faults(parsed.allow_missing) else 0)


def table(findings: Sequence[Finding]) -> Table:
    """Return how many of each group are ok, missing and different."""
    shown = Table(box=box.SIMPLE_HEAD)
    shown.show_edge, shown.pad_edge, shown.collapse_padding = False, False, True
    shown.add_column("")
    for state in STATES:
        shown.add_column(state, justify="right")
    for group in dict.fromkeys(finding.group for finding in findings):
        states = [finding.state for finding in findings if finding.group == group]
        shown.add_row(group, *(str(states.count(state)) for state in STATES))
    return shown


def text(verified: Verified, allow_missing: bool) -> RenderableType:
    """Return the table, every fault with its remedy, the notes, and the verdict in the last line."""
    faults = verified.faults(allow_missing)
    allowed = len(verified.faults()) - len(faults)
    parts: list[RenderableType] = [table(verified.findings), Text()]
    parts += [line for alike in _alike(faults) for line in _lines(alike)]
    parts += [Text(f"note: {note}", style="dim") for note in verified.notes]
    if allowed:
        parts.append(Text(f"note: {allowed} things are missing, which --allow-missing allows", style="dim"))
    told = f"{len(faults)} things are not as recorded" if faults else "all is as recorded"
    if allowed and not faults:
        told = "all that is here is as recorded"
    return Group(*parts, Text(f"verify: {told}", style="bold"))


def _alike(faults: Sequence[Finding]) -> Iterator[list[Finding]]:
    """Yield faults together that differ in nothing but the thing: one new input makes every stage differ."""
    alike: dict[tuple[str, ...], list[Finding]] = {}
    for fault in faults:
        alike.setdefault((fault.group, fault.state, fault.expected, fault.found), []).append(fault)
    yield from alike.values()


def _lines(faults: Sequence[Finding]) -> Iterator[Text]:
    first = faults[0]
    yield Text(f"{first.group}, {first.state}: {', '.join(fault.what for fault in faults)}", style="bold")
    yield Text(f"  expected {first.expected}; found {first.found}")
    remedies = list(dict.fromkeys(fault.remedy for fault in faults))
    more = f" and so on, {len(remedies)} in all" if len(remedies) > NAMED else ""
    yield Text(f"  {'; '.join(remedies[:NAMED])}{more}")


def watched(paths: Sequence[str], console: Console) -> Iterable[str]:
    """Yield the paths one by one, each named beside a progress bar; without a terminal there is none."""
    columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("hashing {task.description}"))
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("", total=len(paths))
        for path in paths:
            progress.update(task, description=path)
            yield path
            progress.advance(task)


if __name__ == "__main__":
    main()
