"""The cells of a comparison table as text: numbers, estimates and intervals, the same on every sheet."""

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich import box
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from pipeline.data.schema import LABELS
from pipeline.evaluation import shape
from pipeline.evaluation.shape import ALL, BASE, REFERENCE
from pipeline.io import paths, records
from pipeline.io.errors import UserError

MISSING = "missing"
Estimate = Mapping[str, float | None]


@dataclass(frozen=True)
class Sheet:
    """One table as text: its title, its header (with line breaks for narrow terminals) and one row a policy."""

    title: str
    header: tuple[str, ...]
    rows: list[tuple[str, ...]]


def number(value: float | None, digits: int = 3, sign: str = "") -> str:
    """Return a number, or that it is missing; `sign` is + for a difference."""
    return MISSING if value is None else f"{value:{sign}.{digits}f}"


def estimate(found: Estimate, wide: bool) -> str:
    """Return an estimate, with its interval where there is room for it."""
    return interval(found) if wide else number(found["value"])


def interval(found: Estimate, sign: str = "") -> str:
    """Return an estimate and the ends of its interval."""
    value, low, high = (number(found[end], sign=sign) for end in ("value", "low", "high"))
    return f"{value} [{low}, {high}]"


def p_value(value: float | None) -> str:
    """Return a p-value with three digits, or that it is below them."""
    return MISSING if value is None else "<.001" if value < 0.001 else f"{value:.3f}"


def label_sheets(evaluation: Mapping[str, Any], wide: bool) -> list[Sheet]:
    """Return toxicity by label of the prompts and refusals by label, each where the evaluation has it."""
    meta = evaluation["meta"]
    rates = {policy: evaluation[policy].get("refusal", {}) for policy in meta["policies"]}
    toxicity = {
        policy: {
            label: {**found["toxicity_mean"], "difference": found.get("difference")}
            for label, found in evaluation[policy].get("categories", {}).items()
        }
        for policy in meta["policies"]
    }
    named = {
        f"Toxicity by label of the prompts, by {meta['primary_judge']}": (toxicity, LABELS),
        "Refusals, which are no toxicity: share of completions that decline": (rates, (*LABELS, ALL)),
    }
    return [sheet for title, (found, labels) in named.items() for sheet in _by_label(title, found, labels, wide)]


def refusals_footnote(meta: Mapping[str, Any]) -> str:
    """Return what a reader must know of refusals; "" where they are not judged."""
    if meta.get("refusal_sha256") is None:
        return ""
    return (
        " Refusals: share of completions that decline, by the judge of refusals. On hostile prompts that can be right, "
        "on benign ones it is over-refusal; neither says anything about toxicity."
    )


def _by_label(title: str, found: Mapping[str, Mapping[str, Any]], labels: Sequence[str], wide: bool) -> Iterator[Sheet]:
    """Yield one sheet with an estimate and a difference a label; none where no prompt is labelled."""
    there = [label for label in labels if all(label in by_label for by_label in found.values())]
    shown = [label for label in there if wide or label != ALL]
    if shown:
        # In 80 columns there is just room for two intervals beside two numbers.
        header = [name for label in shown for name in (f"on\n{label}", "minus\nreference")]
        rows = [
            (policy, *(cell for label in shown for cell in _label_cells(by_label[label], wide)))
            for policy, by_label in found.items()
        ]
        yield Sheet(title, ("policy", *header), rows)


def _label_cells(found: Mapping[str, Any], wide: bool) -> tuple[str, str]:
    difference = found.get("difference")
    return estimate(found, wide), interval(difference, sign="+") if difference else ""


BEFORE_AFTER = ("before", "after", "change")
NARROW_GUARDS = ("perplexity_median", "distinct_2")
ONE_DIGIT = ("perplexity_median", "identity_perplexity", "length_mean")


def sheets(evaluation: Mapping[str, Any], wide: bool) -> list[Sheet]:
    """Return the sheets of toxicity, refusals, guards and differences, policies in the order of the roster.

    Toxicity and refusals on hostile and on benign prompts stand apart, where prompts have these labels and refusals are
    judged. `wide` gives every estimate its interval and every guard its column, and adds mean and standard deviation
    before and after a training by every judge; a terminal of 80 columns has no room for them.
    """
    meta = evaluation["meta"]
    policies, baselines = meta["policies"], list(evaluation["baselines"])
    before_after = _before_after_rows(evaluation) if wide else []
    return [
        Sheet(
            f"Toxicity by {meta['primary_judge']}, lower is better",
            ("policy", "toxicity", "minus reference", "p", "exp.\nmax", "by\nreward\nscorer"),
            [_toxicity_row(evaluation, policy, wide) for policy in policies]
            + [_baseline_row(evaluation, baseline, wide) for baseline in baselines],
        ),
        *(
            [Sheet("Toxicity before and after, mean (sd)", ("policy", "judge", *BEFORE_AFTER), before_after)]
            if before_after
            else []
        ),
        *label_sheets(evaluation, wide),
        Sheet("Guards, what it cost", *_guards_sheet(evaluation, wide)),
        Sheet(
            f"Differences by {meta['primary_judge']}, first minus second",
            ("policies", "difference", "p", "detectable"),
            [_difference_row(evaluation, *pair) for pair in _pairs(evaluation)],
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
    return (
        f"[low, high]: {meta['confidence']:.0%} bootstrap interval, {meta['bootstrap']}. {meta['primary_judge']} is "
        f"held out: no training saw its scores. The reward scorer, {meta['reward_scorer']}, is the training reward. "
        "minus reference: paired by prompt. p: permutation test, Holm-corrected within a family of comparisons, seeds "
        "taken as given; intervals are not corrected. "
        "detectable: the smallest true difference found with a power of 80%. exp. max: mean over "
        f"prompts of the most toxic of {meta['samples_per_prompt']} completions; it grows with their number. Baselines "
        f"choose one of the reference's {meta['samples_per_prompt']} completions and train nothing: "
        f"{_named_baselines(meta)}. {_measured_under(meta)} In brackets: change from the reference."
        + refusals_footnote(meta)
    )


def conclusion(evaluation: Mapping[str, Any]) -> str:
    """Return who is the champion, or that there is none, and why."""
    champion = evaluation["champion"]
    if champion["policy"] is None:
        return f"No champion. {champion['reason']}"
    return f"Champion: {champion['policy']}, {champion['reason']}. Rule: {champion['rule']}"


def _measured_under(meta: Mapping[str, Any]) -> str:
    """Return under which models perplexity and KL are measured, and of how many completions."""
    kl = "KL: to the reference, in nats a completion, approximate under nucleus sampling;"
    count = f"from {meta['analyzed_samples']} completions a prompt."
    if meta.get("perplexity_model", BASE) == BASE:
        return f"perplexity: median under the base model. {kl} like perplexity {count}"
    return f"perplexity: median of completions alone under a causal model that is no policy. {kl} {count}"


def _before_after_rows(evaluation: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Return one row a method and judge; none for an evaluation of an earlier version."""
    before = evaluation[REFERENCE].get("before_after", {})
    return [
        (policy, judge, _mean_and_sd(before[judge]), _mean_and_sd(after), _percent(after["change_percent"]))
        for policy in evaluation["meta"]["policies"]
        if policy != REFERENCE
        for judge, after in evaluation[policy].get("before_after", {}).items()
        if judge in before
    ]


def _mean_and_sd(entry: Mapping[str, float | None]) -> str:
    return f"{number(entry['toxicity_mean'])} ({number(entry['toxicity_sd'])})"


def _percent(found: Mapping[str, float | None]) -> str:
    value, low, high = (MISSING if found[end] is None else f"{found[end]:+.1f}%" for end in ("value", "low", "high"))
    return value if value == MISSING else f"{value} [{low}, {high}]"


def _named_baselines(meta: Mapping[str, Any]) -> str:
    named = [f"{name} by {entry['scorer']}" for name, entry in meta["baselines"].items()]
    return ", ".join(named) or "none"


def comparison_table(evaluation: Mapping[str, Any], experiment: str) -> RenderableType:
    """Return heading, sheets and footnote for a rich console of any width from 80 columns."""
    parts: list[RenderableType] = [Text(heading(evaluation, experiment), style="bold")]
    parts += [_rich_table(sheet) for sheet in sheets(evaluation, wide=False)]
    parts += [Text(), Text(conclusion(evaluation), style="bold"), Text(), Text(footnote(evaluation), style="dim")]
    return Group(*parts)


def markdown(evaluation: Mapping[str, Any], experiment: str) -> str:
    """Return the same as GitHub Markdown."""
    parts = [heading(evaluation, experiment)]
    for sheet in sheets(evaluation, wide=True):
        header = tuple(name.replace("\n", " ") for name in sheet.header)
        lines = [header, ("---",) + ("---:",) * (len(sheet.header) - 1), *sheet.rows]
        parts.append(f"**{sheet.title}**\n\n" + "\n".join(f"| {' | '.join(line)} |" for line in lines))
    return "\n\n".join([*parts, f"**{conclusion(evaluation)}**", footnote(evaluation)])


def _toxicity_row(evaluation: Mapping[str, Any], policy: str, wide: bool) -> tuple[str, ...]:
    meta, judges = evaluation["meta"], evaluation[policy]["judges"]
    held_out, rewarding = judges[meta["primary_judge"]], judges.get(meta["reward_scorer"])
    compared = evaluation["comparisons"].get(policy, {}).get(REFERENCE)
    return (
        policy,
        interval(held_out["toxicity_mean"]),
        interval(compared["difference"], sign="+") if compared else "",
        p_value(compared["p_holm"]) if compared else "",
        estimate(held_out["expected_max_toxicity"], wide),
        estimate(rewarding["toxicity_mean"], wide) if rewarding else "not judged",
    )


def _baseline_row(evaluation: Mapping[str, Any], baseline: str, wide: bool) -> tuple[str, ...]:
    meta, judges = evaluation["meta"], evaluation["baselines"][baseline]["judges"]
    held_out, rewarding = judges[meta["primary_judge"]], judges.get(meta["reward_scorer"])
    return (
        baseline,
        interval(held_out["toxicity_mean"]),
        interval(held_out["difference"]["toxicity_mean"], sign="+"),
        "",
        "",
        estimate(rewarding["toxicity_mean"], wide) if rewarding else "not judged",
    )


def _guards_sheet(evaluation: Mapping[str, Any], wide: bool) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    guards = list(evaluation["meta"]["guards"])
    shown = guards if wide else [name for name in guards if name in NARROW_GUARDS]
    header = ("policy", *(name.replace("_", " " if wide else "\n") for name in shown), "KL", "guards failed", "verdict")
    rows = []
    for policy in evaluation["meta"]["policies"]:
        entry = evaluation[policy]
        checks = entry.get("guard_checks", {})
        values = [
            number(entry["guards"].get(name), 1 if name in ONE_DIGIT else 3) + _change(checks.get(name))
            for name in shown
        ]
        failed = entry["guards_failed"].replace("_", " ") or ("none" if checks else "")
        outcome = entry["verdict"]["outcome"] if "verdict" in entry else ""
        rows.append((policy, *values, number(entry["guards"]["kl"], digits=2), failed, outcome))
    return header, rows


def _pairs(evaluation: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return every pair that is compared once, those with the reference left out: another sheet has them."""
    compared = evaluation["comparisons"]
    methods = [policy for policy in evaluation["meta"]["policies"] if policy in compared]
    others = [*methods, *evaluation["baselines"]]
    return [(first, second) for index, first in enumerate(methods) for second in others[index + 1 :]]


def _difference_row(evaluation: Mapping[str, Any], first: str, second: str) -> tuple[str, ...]:
    entry = evaluation["comparisons"][first][second]
    names = f"{first} - {second}"
    return (
        names,
        interval(entry["difference"], sign="+"),
        p_value(entry["p_holm"]),
        number(entry["smallest_detectable"]),
    )


def _change(check: Mapping[str, Any] | None) -> str:
    """Return the change from the reference, which has none itself; a missing change is shown by its missing part."""
    if check is None or check["change"]["value"] is None:
        return ""
    return f" ({check['change']['value']:{'+.1%' if check['kind'] == 'relative' else '+.3f'}})"


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
    parser = argparse.ArgumentParser(prog="python -m pipeline.apps.table", description=__doc__)
    parser.add_argument("experiment", help="name of a file in experiments/, without .yaml")
    parser.add_argument("--markdown", action="store_true", help="GitHub Markdown, as in the README")
    chosen = parser.parse_args(arguments)
    try:
        evaluation = read(chosen.experiment, whole=True)
    except UserError as error:
        print(f"table: {error}", file=sys.stderr)
        sys.exit(2)
    if chosen.markdown:
        print(markdown(evaluation, chosen.experiment))
    else:
        Console().print(comparison_table(evaluation, chosen.experiment))


def read(experiment: str, whole: bool = False) -> dict[str, Any]:
    """Read an experiment's evaluation; raise UserError when there is none, or it is broken or of another schema.

    `whole` also refuses one of an earlier version that lacks baselines, comparisons or a champion.
    """
    path = paths.metrics(experiment, "evaluation")
    evaluation = records.read_json(path)
    shape.check(evaluation, str(path), whole)
    return evaluation


if __name__ == "__main__":
    main()
