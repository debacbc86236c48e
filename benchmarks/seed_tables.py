"""The tables of docs/seed-audit.md as Markdown, by name: everything on that page that is a computed number."""

from collections.abc import Sequence
from typing import Any

Found = dict[str, Any]

# What of the evaluation, and not of the policies, differs between two rows; read from the code of the cells.
PROMPTS = "the prompts"
ALL = "text scored, template, decoding, length"
ALSO = {
    "ppo - base": "nothing",
    "dpo - sft": ALL,
    "sft - base": f"{PROMPTS}, {ALL}",
    "dpo - base": PROMPTS,
    "sft - ppo": f"{PROMPTS}, {ALL}",
    "dpo - ppo": PROMPTS,
}


def tables(found: Found) -> dict[str, str]:
    """Return every table and list of findings by the name that the page gives its place."""
    tinyllama, lab = found["tinyllama"], found["lab"]
    return {
        "scored": _scored(tinyllama),
        "means": _means(tinyllama["policies"]),
        "differences": _differences(tinyllama),
        "echo": _echo(tinyllama["dpo_response_is_prompt"]),
        "reruns": _reruns(lab["reruns"]),
        "reruns-findings": _rerun_findings(lab["reruns"]),
        "stated": _stated(lab["stated"]),
        "stated-findings": _stated_findings(lab["stated"]),
    }


def _scored(found: Found) -> str:
    rows = [
        [
            name,
            f"{one['begin_with_prompt']} of {found['policies'][name]['n']}",
            f"{one['prompt_words']:g}",
            f"{one['words']:g}",
            str(one["longest"]),
        ]
        for name, one in found["scored"].items()
    ]
    head = ["row", "scored texts that begin with their prompt", "words of a prompt", "of a scored text", "longest"]
    return _table(head, rows)


def _means(policies: Found) -> str:
    rows = [
        [
            name,
            str(one["n"]),
            f"{one['stated']:.4f}",
            f"{one['mean']:.4f}",
            f"{one['sd']:.3f}",
            _interval(one["t"]),
            _interval(one["bootstrap"]),
            f"{one['toxic']['count']} of {one['n']}: {_interval(one['toxic']['interval'])}",
        ]
        for name, one in policies.items()
    ]
    head = ["row", "n", "as stated", "recomputed", "sd", "95 % (t)", "95 % (BCa bootstrap)", "toxic at 0.5, 95 %"]
    return _table(head, rows)


def _differences(found: Found) -> str:
    rows = []
    for name, one in found["same_prompts"].items():
        prompts = f"the same {one['n']}"
        detectable = f"{one['smallest_detectable']:.3f}"
        rows.append(
            [name, prompts, _signed(one["difference"]), _interval(one["t"]), _p(one["p"]), detectable, ALSO[name]]
        )
    for name, one in found["no_common_prompt"].items():
        prompts = f"{one['n'][0]} and {one['n'][1]}, none in common"
        rows.append([name, prompts, _signed(one["difference"]), _interval(one["welch"]), _p(one["p"]), "-", ALSO[name]])
    return _table(
        ["difference", "prompts", "mean", "95 %", "p", "smallest detectable (80 %)", "what else differs"], rows
    )


def _echo(found: Found) -> str:
    return (
        f"- {found['responses']} of DPO's responses are the prompt and not a word more. Their mean toxicity, that of "
        f"insults written by hand, is {found['mean']:.3f}; the other responses, prompt included, have "
        f"{found['mean_of_the_others']:.3f}."
    )


def _reruns(found: Found) -> str:
    names = {
        "before": "before PPO (the lab's checkpoint)",
        "after": "after 10 PPO steps",
        "change": "change",
    }
    rows = [
        [label, *(f"{found[key][part]:.4f}" for part in ("mean", "sd", "min", "max"))] for key, label in names.items()
    ]
    relative = found["relative_change"]
    rows.append(["relative change", *(f"{relative[part]:.0%}" for part in ("mean", "sd", "min", "max"))])
    return _table(["mean toxicity of 11 dialogues", "mean", "sd", "min", "max"], rows)


def _rerun_findings(found: Found) -> str:
    change = found["change"]
    return "\n".join(
        (
            f"- {found['runs']} reruns of the same notebook. In {change['rose']} of them toxicity *rose*; in "
            f"{change['fell_more_than_stated']} it fell by more than the stated run's.",
            "- All reruns start from the lab's checkpoint and the same 11 dialogues, yet 'before' lies anywhere from "
            f"{found['before']['min']:.4f} to {found['before']['max']:.4f}, with nothing trained yet: sampling moves "
            "it by more than the improvement that is stated.",
            f"- One run's change varies by ±{change['noise_of_one_run']:.4f} (95 %, normal) around the mean change.",
            f"- Over all reruns the mean change is {change['mean']:.4f} {_interval(change['t'], 4)}, p "
            f"{_p(change['p'])}: perhaps a small gain on this scorer, which no single run of the lab can show.",
        )
    )


def _stated(found: Found) -> str:
    assumptions = {
        "bounded": "nothing but that scores lie in [0, 1] (Hoeffding)",
        "widest_sd": "the largest sd such scores can have (t)",
        "usual_sd": "the median sd that the reruns print (t)",
    }
    rows = [
        [label, _interval(found["before"][key], 4), _interval(found["after"][key], 4)]
        for key, label in assumptions.items()
    ]
    head = [
        f"95 % interval, n = {found['n']}, assuming",
        *(f"{when} {found[when]['mean']}" for when in ("before", "after")),
    ]
    return _table(head, rows)


def _stated_findings(found: Found) -> str:
    return "\n".join(
        (
            f"- The stated change is {found['change']:.4f}. With the usual sd Welch's p is {_p(found['p'])}.",
            f"- {found['n']} dialogues find a change of {found['smallest_detectable']:.4f} four times out of five: "
            "more than the whole mean.",
            f"- To find the stated change as often, the lab would need {found['dialogues_needed']} dialogues.",
        )
    )


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _interval(bounds: Sequence[float], digits: int = 3) -> str:
    return f"[{bounds[0]:.{digits}f}, {bounds[1]:.{digits}f}]"


def _signed(value: float) -> str:
    return f"{value:+.3f}"


def _p(value: float) -> str:
    return "<.001" if value < 0.001 else f"{value:.3f}"
