"""The main table for a paper, and that of refusals where they are judged, with booktabs."""

from collections.abc import Mapping
from typing import Any

from pipeline.apps.report import numbers, verdict
from pipeline.apps.report import refusals as refusal_lines
from pipeline.apps.report.numbers import Interval
from pipeline.apps.report.verdict import Line

_SPECIAL = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    numbers.MINUS: r"$-$",
    numbers.NOT_APPLICABLE: "--",
    "\N{NO-BREAK SPACE}": "~",
}
HEADER = ("Method", "Toxicity", "Minus reference", r"$p_{\mathrm{Holm}}$", "Perplexity", "Guards failed", "Outcome")


def table(evaluation: Mapping[str, Any]) -> str:
    """Return a `tabular` of the main result with intervals; it needs `\\usepackage{booktabs}`."""
    meta = evaluation["meta"]
    seeds = ", ".join(map(str, meta["seeds"]))
    notes = (
        f"% {meta['prompts']} prompts, {meta['samples_per_prompt']} completions each, seeds {seeds}; mean toxicity by "
        f"{meta['primary_judge']}, held out; {meta['confidence']:.0%} intervals, {meta['bootstrap']}.",
        r"% Needs \usepackage{booktabs}. Written by the report; do not edit.",
    )
    rows, last = [], None
    for line in verdict.lines(evaluation):
        if last is not None and line.kind != last:
            rows.append(r"\midrule")
        rows.append(" & ".join(_cells(line)) + r" \\")
        last = line.kind
    body = [r"\begin{tabular}{lrrrrll}", r"\toprule", " & ".join(HEADER) + r" \\", r"\midrule", *rows]
    return "\n".join([*notes, *body, r"\bottomrule", r"\end{tabular}", ""])


def refusals(evaluation: Mapping[str, Any]) -> str:
    """Return a `tabular` of refusal rates and of toxicity on the same prompts; "" where refusals are not judged."""
    groups = refusal_lines.groups(evaluation)
    if not groups:
        return ""
    meta = evaluation["meta"]
    notes = (
        "% Share of completions that decline, which says nothing about toxicity, beside mean toxicity by "
        f"{meta['primary_judge']}; {meta['confidence']:.0%} intervals, {meta['bootstrap']}.",
        r"% Needs \usepackage{booktabs}. Written by the report; do not edit.",
    )
    rows = []
    for group in groups:
        rows.append(rf"\multicolumn{{5}}{{l}}{{\emph{{{escape(group[0].title)}}}}} \\")
        rows += [" & ".join(_refusal_cells(line)) + r" \\" for line in group]
        rows.append(r"\midrule")
    header = ("Method", "Declines", "Minus reference", "Toxicity", "Minus reference")
    body = [r"\begin{tabular}{lrrrr}", r"\toprule", " & ".join(header) + r" \\", r"\midrule", *rows[:-1]]
    return "\n".join([*notes, *body, r"\bottomrule", r"\end{tabular}", ""])


def _refusal_cells(line: refusal_lines.Line) -> list[str]:
    differences = [
        numbers.NOT_APPLICABLE if found is None else _interval(found, sign=True)
        for found in (line.difference, line.toxicity_difference)
    ]
    cells = (numbers.label(line.policy), _interval(line.rate), differences[0], _interval(line.toxicity), differences[1])
    return [escape(cell) for cell in cells]


def escape(text: str) -> str:
    """Return text that LaTeX prints as it is."""
    return "".join(_SPECIAL.get(character, character) for character in text)


def _cells(line: Line) -> list[str]:
    none = numbers.NOT_APPLICABLE
    is_reference = line.kind == verdict.REFERENCE
    failed = none if line.guards_failed is None else ", ".join(line.guards_failed) or "none"
    name = escape(numbers.label(line.name))
    return [
        rf"\textbf{{{name}}}" if line.champion else name,
        escape(_interval(line.toxicity)),
        escape(none if is_reference else _interval(line.difference, sign=True)),
        escape(numbers.p_value(line.p_holm)) if line.is_method else escape(none),
        escape(none if is_reference else numbers.percent(line.perplexity_change, sign=True)),
        escape(failed),
        escape((line.outcome or numbers.MISSING) if line.is_method else none),
    ]


def _interval(found: Interval, sign: bool = False) -> str:
    return f"{numbers.number(found.value, sign=sign)} {numbers.ends(found, sign=sign)}".strip()
