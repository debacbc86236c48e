"""A comparison as text for a terminal and as Markdown for a pull request, from the same tables."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from pipeline.apps.diff.comparison import ADDED, COMPARED, Change, ExperimentDiff
from pipeline.apps.diff.noise import Line
from pipeline.apps.diff.snapshot import Snapshot

BEYOND = {True: "**yes**", False: "no"}
LONG = 15  # rows of parameters that a page shows unasked
NOTE = (
    "beyond noise: the interval of the change leaves 0 out. paired by prompt: both sides hold the same prompts and "
    "seeds; independent: from both intervals, which is wider than it had to be. Each line stands for itself: of twenty "
    "that only noise moved, one says yes. With one seed nothing here says how much another training would differ."
)


@dataclass(frozen=True)
class Sheet:
    """One table; `folded` where a page should hide it until asked."""

    title: str
    header: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    folded: bool = False


def heading(old: Snapshot, new: Snapshot) -> str:
    """Return one line that names both sides."""
    return f"{old.name} → {new.name}"


def text(roster: Sequence[Change], found: Sequence[ExperimentDiff]) -> RenderableType:
    """Return the whole comparison for a rich console."""
    parts: list[RenderableType] = []
    for title, notes, sheets in _sections(roster, found):
        parts.append(Text(f"\n{title}", style="bold"))
        parts += [Text(note.replace("**", "")) for note in notes]
        parts += [_rich_table(sheet) for sheet in sheets]
    if _has_numbers(found):
        parts += [Text(), Text(NOTE, style="dim")]
    return Group(*parts)


def markdown(roster: Sequence[Change], found: Sequence[ExperimentDiff], title: str) -> str:
    """Return the same as GitHub Markdown; what only noise moved is folded away."""
    parts = [f"### What changed: {title}"]
    for name, notes, sheets in _sections(roster, found):
        parts += [f"#### {name}", *notes, *(_markdown_table(sheet) for sheet in sheets)]
    if _has_numbers(found):
        parts.append(f"<sub>{NOTE}</sub>")
    return "\n\n".join(parts)


def _has_numbers(found: Sequence[ExperimentDiff]) -> bool:
    return any(experiment.lines for experiment in found)


def _sections(
    roster: Sequence[Change], found: Sequence[ExperimentDiff]
) -> Iterator[tuple[str, list[str], list[Sheet]]]:
    if roster:
        yield "Roster (params.yaml)", [], [_changes("", "key", roster)]
    for experiment in found:
        if experiment.status != COMPARED:
            yield experiment.name, [f"{'Added to' if experiment.status == ADDED else 'Removed from'} the roster."], []
        else:
            yield experiment.name, _notes(experiment), list(_sheets(experiment))


def _notes(experiment: ExperimentDiff) -> list[str]:
    if experiment.is_empty:
        return ["Nothing changed."]
    notes = []
    if experiment.obstacles:
        notes.append(f"**Numbers are not comparable:** {'; '.join(experiment.obstacles)}.")
    if experiment.limits:
        notes.append(f"In part comparable: {'; '.join(experiment.limits)}.")
    if experiment.lines and experiment.seeds == 1:
        notes.append("One seed: noise is that of prompts. Training again with another seed is not in it.")
    if not experiment.obstacles:
        beyond = sum(line.change.beyond_noise is True for line in experiment.lines)
        notes.append(
            f"**{beyond} numbers changed beyond noise**, {len(experiment.lines) - beyond} others changed, "
            f"{experiment.unchanged} did not."
        )
    return notes


def _sheets(experiment: ExperimentDiff) -> Iterator[Sheet]:
    if experiment.decisions:
        yield _changes("Decisions", "what", experiment.decisions)
    header = ("policy", "what", "old", "new", "change [low, high]", "beyond noise")
    by_noise: dict[bool | None, list[Line]] = {True: [], False: [], None: []}
    for line in experiment.lines:
        by_noise[line.change.beyond_noise].append(line)
    if by_noise[True]:
        yield Sheet("Changed beyond noise", header, [_row(line) for line in by_noise[True]])
    if by_noise[False]:
        yield Sheet("Changed within noise", header, [_row(line) for line in by_noise[False]], folded=True)
    if by_noise[None]:
        title = "Changed, without an interval to tell noise by"
        yield Sheet(title, header[:4], [_row(line)[:4] for line in by_noise[None]], folded=True)
    if experiment.parameters:
        yield _changes("Parameters", "key", experiment.parameters)


def _changes(title: str, what: str, changes: Sequence[Change]) -> Sheet:
    rows = [(change.what, change.old, change.new) for change in changes]
    return Sheet(title, (what, "old", "new"), rows, folded=len(rows) > LONG)


def _row(line: Line) -> tuple[str, ...]:
    change, beyond = line.change.interval, line.change.beyond_noise
    if beyond is None:
        return (line.policy, line.what, _number(line.old), _number(line.new))
    value, low, high = (_number(end, "+", digits=2) for end in (change.value, change.low, change.high))
    noise = f"{BEYOND[beyond]}, {line.change.method}"
    return (line.policy, line.what, _number(line.old), _number(line.new), f"{value} [{low}, {high}]", noise)


def _number(value: float | None, sign: str = "", digits: int = 3) -> str:
    return "missing" if value is None or value != value else f"{value:{sign}.{digits}g}"


def _rich_table(sheet: Sheet) -> Table:
    table = Table(title=sheet.title and "\n" + sheet.title, title_justify="left", title_style="", box=box.SIMPLE_HEAD)
    table.show_edge, table.pad_edge, table.collapse_padding = False, False, True
    for name in sheet.header:
        table.add_column(name, overflow="fold", no_wrap=name.startswith("change"))
    for row in sheet.rows:
        table.add_row(*(Text(cell.replace("**", "")) for cell in row))
    return table


def _markdown_table(sheet: Sheet) -> str:
    lines = [sheet.header, ("---",) * len(sheet.header), *sheet.rows]
    table = "\n".join(f"| {' | '.join(map(_cell, line))} |" for line in lines)
    if sheet.folded:
        return f"<details><summary>{sheet.title} ({len(sheet.rows)})</summary>\n\n{table}\n\n</details>"
    return f"**{sheet.title}**\n\n{table}" if sheet.title else table


def _cell(text: str) -> str:
    """Return text that can neither break a table nor be read as HTML or as somebody's name."""
    escaped = text.replace("&", "&amp;").replace("<", "&lt;").replace("|", "\\|").replace("@", "@&#8203;")
    return " ".join(escaped.split())
