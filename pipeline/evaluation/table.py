"""Print the comparison table of one experiment: `python -m pipeline.evaluation.table EXPERIMENT [--markdown]`."""

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich import box
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from pipeline import paths, records
from pipeline.errors import UserError
from pipeline.evaluation.report import REFERENCE, SCHEMA_VERSION

MISSING = "missing"


@dataclass(frozen=True)
class Sheet:
    """One table as text: its title, its header (with line breaks for narrow terminals) and one row a policy."""

    title: str
    header: tuple[str, ...]
    rows: list[tuple[str, ...]]


def sheets(evaluation: Mapping[str, Any], wide: bool) -> list[Sheet]:
    """Return the toxicity sheet and the guards sheet, policies in the order of the roster.

    `wide` gives every toxicity its interval; a terminal of 80 columns has room for those of the first two only.
    """
    meta = evaluation["meta"]
    primary, reward = meta["primary_judge"], meta["reward_scorer"]
    return [
        Sheet(
            f"Toxicity by {primary}, lower is better",
            ("policy", "toxicity", "minus reference", "exp.\nmax", "prob.", "by\nreward\nscorer"),
            [_toxicity_row(policy, evaluation[policy]["judges"], primary, reward, wide) for policy in meta["policies"]],
        ),
        Sheet(
            "Guards, what it cost",
            ("policy", "perplexity", "distinct-2", "empty", "length", "KL", "guards"),
            [_guards_row(policy, evaluation[policy]) for policy in meta["policies"]],
        ),
    ]


def heading(evaluation: Mapping[str, Any], experiment: str) -> str:
    """Return one line that names what was compared."""
    meta = evaluation["meta"]
    seeds = ", ".join(map(str, meta["seeds"]))
    return (
        f"{experiment}: {meta['prompts']} prompts, k = {meta['samples_per_prompt']}, "
        f"{meta['decoding']['max_new_tokens']} tokens, seed{'s' * (len(meta['seeds']) > 1)} {seeds}, "
        f"judge {meta['primary_judge']}"
    )


def footnote(evaluation: Mapping[str, Any]) -> str:
    """Return what a reader must know to read the numbers."""
    meta = evaluation["meta"]
    limits = meta["guard_limits"]
    clusters = meta["bootstrap"].removeprefix("percentile, ")
    return (
        f"[low, high]: {meta['confidence']:.0%} bootstrap interval, {clusters}. {meta['primary_judge']} is held out: "
        f"no training saw its scores. The reward scorer, {meta['reward_scorer']}, is the training reward. minus "
        "reference: paired by prompt. exp. max: mean over prompts of the most toxic of k completions; prob.: share of "
        f"prompts with a completion at or above {meta['threshold']:g}; both grow with k. perplexity: median under the "
        "base model. length: mean, in tokens. KL: to the reference, in nats a completion, approximate under nucleus "
        f"sampling; like perplexity from {meta['analyzed_samples']} completions a prompt. In brackets: change from the "
        f"reference; the guards allow perplexity {limits['max_perplexity_increase']:+.0%} and distinct-2 "
        f"{-limits['max_distinct_2_decrease']:+.0%}."
    )


def comparison_table(evaluation: Mapping[str, Any], experiment: str) -> RenderableType:
    """Return heading, sheets and footnote for a rich console of any width from 80 columns."""
    parts: list[RenderableType] = [Text(heading(evaluation, experiment), style="bold")]
    parts += [_rich_table(sheet) for sheet in sheets(evaluation, wide=False)]
    parts += [Text(), Text(footnote(evaluation), style="dim")]
    return Group(*parts)


def markdown(evaluation: Mapping[str, Any], experiment: str) -> str:
    """Return the same as GitHub Markdown."""
    parts = [heading(evaluation, experiment)]
    for sheet in sheets(evaluation, wide=True):
        header = tuple(name.replace("\n", " ") for name in sheet.header)
        lines = [header, ("---",) + ("---:",) * (len(sheet.header) - 1), *sheet.rows]
        parts.append(f"**{sheet.title}**\n\n" + "\n".join(f"| {' | '.join(line)} |" for line in lines))
    return "\n\n".join([*parts, footnote(evaluation)])


def _toxicity_row(policy: str, judges: Mapping[str, Any], primary: str, reward: str, wide: bool) -> tuple[str, ...]:
    held_out = judges[primary]
    rewarding = judges.get(reward)
    return (
        policy,
        _interval(held_out["toxicity_mean"]),
        "" if policy == REFERENCE else _interval(held_out["difference"]["toxicity_mean"], sign="+"),
        _estimate(held_out["expected_max_toxicity"], wide),
        _estimate(held_out["toxicity_probability"], wide),
        _estimate(rewarding["toxicity_mean"], wide) if rewarding else "not judged",
    )


def _guards_row(policy: str, entry: Mapping[str, Any]) -> tuple[str, ...]:
    guards = entry["guards"]
    names = entry["guards_failed"].replace("perplexity_median", "perplexity").replace("_", "-")
    return (
        policy,
        _number(guards["perplexity_median"], digits=1) + _change(guards.get("perplexity_ratio")),
        _number(guards["distinct_2"]) + _change(guards.get("distinct_2_ratio")),
        _number(guards["empty_rate"]),
        _number(guards["length_mean"], digits=1),
        _number(guards["kl"], digits=2),
        "ok" if entry["guards_passed"] else f"failed: {names}",
    )


def _change(ratio: Mapping[str, float | None] | None) -> str:
    """Return the change from the reference, which has none itself; a missing ratio is shown by its missing part."""
    return "" if ratio is None or ratio["value"] is None else f" ({ratio['value'] - 1:+.1%})"


def _number(value: float | None, digits: int = 3, sign: str = "") -> str:
    return MISSING if value is None else f"{value:{sign}.{digits}f}"


def _estimate(interval: Mapping[str, float | None], wide: bool) -> str:
    return _interval(interval) if wide else _number(interval["value"])


def _interval(interval: Mapping[str, float | None], sign: str = "") -> str:
    value, low, high = (_number(interval[end], sign=sign) for end in ("value", "low", "high"))
    return f"{value} [{low}, {high}]"


def _rich_table(sheet: Sheet) -> Table:
    table = Table(title="\n" + sheet.title, title_justify="left", title_style="", box=box.SIMPLE_HEAD)
    table.show_edge, table.pad_edge, table.collapse_padding = False, False, True
    for index, name in enumerate(sheet.header):
        table.add_column(name, justify="left" if index == 0 else "right")
    for row in sheet.rows:
        table.add_row(*row)
    return table


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table of the experiment named on the command line; exit with code 2 where it is not evaluated."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.evaluation.table", description=__doc__)
    parser.add_argument("experiment", help="name of a file in experiments/, without .yaml")
    parser.add_argument("--markdown", action="store_true", help="GitHub Markdown, as in the README")
    chosen = parser.parse_args(arguments)
    try:
        evaluation = read(chosen.experiment)
    except UserError as error:
        print(f"table: {error}", file=sys.stderr)
        sys.exit(2)
    if chosen.markdown:
        print(markdown(evaluation, chosen.experiment))
    else:
        Console().print(comparison_table(evaluation, chosen.experiment))


def read(experiment: str) -> dict[str, Any]:
    """Read an experiment's evaluation; raise UserError when there is none or it has another schema."""
    path = paths.metrics(experiment, "evaluation")
    evaluation = records.read_json(path)
    version = evaluation.get("schema_version")
    if version != SCHEMA_VERSION:
        raise UserError(f"{path}: schema_version: expected {SCHEMA_VERSION}, got {version!r}; run `dvc repro`")
    return evaluation


if __name__ == "__main__":
    main()
