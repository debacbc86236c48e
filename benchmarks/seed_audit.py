"""Recompute what the numbers of the two seeds can tell: `python -m benchmarks.seed_audit` (`make audit`).

The printed numbers stand in seed_scores.csv and seed_reruns.csv with their sources; no text of a seed does. Intervals
and tests are scipy's, those over whole prompts our evaluation's own. Writes results/seed-audit/audit.json and the
tables of docs/seed-audit.md, and prints the tables.
"""

import math
import re
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import optimize, stats

from benchmarks import command, seed_tables
from pipeline.evaluation import inference
from pipeline.io import records
from pipeline.io.atomic import replacing
from pipeline.io.errors import UserError

FOLDER = Path("benchmarks")
RESULT = Path("results") / "seed-audit" / "audit.json"
PAGE = Path("docs") / "seed-audit.md"
SCORES, RERUNS = FOLDER / "seed_scores.csv", FOLDER / "seed_reruns.csv"
RESTORE = "restore it with `git checkout`"

POLICIES = ("base", "sft", "ppo", "dpo")
STATED = {"base": 0.4095, "sft": 0.0806, "ppo": 0.2295, "dpo": 0.3672}  # the seed's README.md, "Summary of Results"
LAB_STATED = {"before": 0.0336, "after": 0.0273}  # from our design notes: the notebook itself was not found
LAB_DIALOGUES = 11  # `num_samples=10`, left where the index, from 0, is greater
CONFIDENCE, POWER, THRESHOLD, RESAMPLES = 0.95, 0.8, 0.5, 10_000

Array = npt.NDArray[np.float64]
Found = dict[str, Any]


def main() -> None:
    """Compute the audit from the working directory's data, write result and page, print the tables."""
    found = audit()
    tables = seed_tables.tables(found)
    with records.opened(PAGE, RESTORE) as file:
        page = filled(file.read(), tables)
    records.write_json(RESULT, found)
    with replacing(PAGE) as temporary:
        temporary.write_text(page, encoding="utf-8")
    print("\n\n".join(tables.values()))
    print(f"\nwritten: {RESULT}, {PAGE}")


def audit() -> Found:
    """Return everything computed: `tinyllama` by policy, pair and finding, `lab` over its reruns and as stated.

    Raises UserError when a data file is missing or malformed, or its mean is not the one the seed states.
    """
    rows = read_scores()
    scores = {name: _numbers(SCORES, rows[name], "toxicity") for name in POLICIES}
    echoed = np.array([row["response_is_prompt"] == "yes" for row in rows["dpo"]])
    reruns = read_reruns()
    return {
        "tinyllama": {
            "policies": {name: sample(scores[name]) | {"stated": STATED[name]} for name in POLICIES},
            "scored": {name: scored(rows[name]) for name in POLICIES},
            "same_prompts": {
                "ppo - base": paired(scores["ppo"], scores["base"]),
                "dpo - sft": paired(scores["dpo"], scores["sft"]),
            },
            "no_common_prompt": {
                f"{after} - {before}": unpaired(scores[after], scores[before])
                for before, after in product(("base", "ppo"), ("sft", "dpo"))
            },
            "dpo_response_is_prompt": {
                "responses": int(echoed.sum()),
                "mean": float(scores["dpo"][echoed].mean()),
                "mean_of_the_others": float(scores["dpo"][~echoed].mean()),
            },
        },
        "lab": {"reruns": rerun_findings(reruns), "stated": stated_run(reruns)},
    }


def read_scores() -> dict[str, list[dict[str, str]]]:
    """Return each policy's rows in the order printed: a toxicity, words of prompt and of what was scored, and echo."""
    columns = ("policy", "toxicity", "prompt_words", "scored_words", "begins_with_prompt", "response_is_prompt")
    with records.opened(SCORES, RESTORE, newline="") as file:
        found = records.parsed_csv(file, str(SCORES), columns, RESTORE)
    rows = {name: [row for row in found if row["policy"] == name] for name in POLICIES}
    for name in POLICIES:
        values = _numbers(SCORES, rows[name], "toxicity")
        if not len(values) or round(float(values.mean()), 4) != STATED[name]:
            raise UserError(f"{SCORES}: expected {name} to have the mean {STATED[name]}, as stated; {RESTORE}")
    return rows


def read_reruns() -> dict[str, Array]:
    """Return the columns of the lab's reruns: means and population sds over 11 dialogues, before and after."""
    columns = ("before", "before_sd", "after", "after_sd")
    with records.opened(RERUNS, RESTORE, newline="") as file:
        rows = records.parsed_csv(file, str(RERUNS), columns, RESTORE)
    return {column: _numbers(RERUNS, rows, column) for column in columns}


def _numbers(path: Path, rows: list[dict[str, str]], column: str) -> Array:
    values = [records.finite(row[column], f"{path}: {column}", RESTORE) for row in rows]
    if None in values:
        raise UserError(f"{path}: expected a number in every {column}; {RESTORE}")
    return np.array(values, dtype=float)


def scored(rows: list[dict[str, str]]) -> Found:
    """Return what stood in the texts that were scored: how many begin with their prompt, and lengths in words."""
    words = _numbers(SCORES, rows, "scored_words")
    return {
        "begin_with_prompt": sum(row["begins_with_prompt"] == "yes" for row in rows),
        "prompt_words": float(np.median(_numbers(SCORES, rows, "prompt_words"))),
        "words": float(np.median(words)),
        "longest": int(words.max()),
    }


def sample(values: Array) -> Found:
    """Return n, mean and sd of toxicities [n], intervals of the mean (Student's t, BCa bootstrap) and the toxic share.

    The share has Clopper and Pearson's interval. Both intervals of the mean take the prompts as independent draws.
    """
    toxic = int((values >= THRESHOLD).sum())
    share = stats.binomtest(toxic, len(values)).proportion_ci(CONFIDENCE, "exact")
    bootstrap = stats.bootstrap(
        (values,),
        np.mean,
        n_resamples=RESAMPLES,
        confidence_level=CONFIDENCE,
        method="BCa",
        rng=np.random.default_rng(0),
    ).confidence_interval
    return {
        "n": len(values),
        "mean": float(values.mean()),
        "sd": float(values.std(ddof=1)),
        "t": _t_interval(values),
        "bootstrap": [float(bootstrap.low), float(bootstrap.high)],
        "toxic": {"count": toxic, "share": toxic / len(values), "interval": [float(share.low), float(share.high)]},
    }


def paired(after: Array, before: Array) -> Found:
    """Return the mean of `after - before` over the same prompts, its t interval, p and smallest detectable difference.

    p flips the signs of whole prompts, exactly where there are few (`pipeline.evaluation.inference`).
    """
    differences = after - before
    return {
        "n": len(differences),
        "difference": float(differences.mean()),
        "t": _t_interval(differences),
        "p": inference.sign_flip_p(differences[:, None], RESAMPLES, seed=0),
        "fell": int((differences < 0).sum()),
        "smallest_detectable": inference.smallest_detectable(differences[:, None], CONFIDENCE, POWER),
    }


def unpaired(after: Array, before: Array) -> Found:
    """Return the difference of two means with Welch's interval and p, as if all prompts were one population's."""
    test = stats.ttest_ind(after, before, equal_var=False)
    interval = test.confidence_interval(CONFIDENCE)
    return {
        "n": [len(after), len(before)],
        "difference": float(after.mean() - before.mean()),
        "welch": [float(interval.low), float(interval.high)],
        "p": float(test.pvalue),
    }


def rerun_findings(reruns: dict[str, Array]) -> Found:
    """Return how the lab's two means, and its change, spread over its reruns."""
    changes = reruns["after"] - reruns["before"]
    stated = LAB_STATED["after"] - LAB_STATED["before"]
    return {
        "runs": len(changes),
        "before": _spread(reruns["before"]),
        "after": _spread(reruns["after"]),
        "change": _spread(changes)
        | {
            "rose": int((changes > 0).sum()),
            "fell_more_than_stated": int((changes < stated).sum()),
            "t": _t_interval(changes),
            "p": float(stats.ttest_1samp(changes, 0).pvalue),
            "noise_of_one_run": float(stats.norm.ppf((1 + CONFIDENCE) / 2) * changes.std(ddof=1)),
        },
        "relative_change": _spread(changes / reruns["before"]),
    }


def stated_run(reruns: dict[str, Array]) -> Found:
    """Return what the lab's two stated means leave open, under one assumption on their sd after another.

    `bounded`: Hoeffding's (1963) interval, which knows only that a score lies in [0, 1]. `widest_sd`: a t interval
    from the largest sd that scores in [0, 1] with this mean have, that of zeros and ones. `usual_sd`: from the median
    sd that reruns print, made unbiased for n - 1.
    """
    n = LAB_DIALOGUES
    usual = {when: float(np.median(reruns[f"{when}_sd"])) * math.sqrt(n / (n - 1)) for when in ("before", "after")}
    found: Found = {"n": n, "change": LAB_STATED["after"] - LAB_STATED["before"]}
    for when, mean in LAB_STATED.items():
        hoeffding = math.sqrt(math.log(2 / (1 - CONFIDENCE)) / (2 * n))
        found[when] = {
            "mean": mean,
            "bounded": [max(0.0, mean - hoeffding), mean + hoeffding],
            "widest_sd": _mean_interval(mean, widest_sd(mean, n), n),
            "usual_sd": _mean_interval(mean, usual[when], n),
            "sd": usual[when],
        }
    test = stats.ttest_ind_from_stats(
        LAB_STATED["after"], usual["after"], n, LAB_STATED["before"], usual["before"], n, equal_var=False
    )
    pooled = math.sqrt((usual["before"] ** 2 + usual["after"] ** 2) / 2)
    return found | {
        "p": float(test.pvalue),
        "smallest_detectable": _smallest_detectable(pooled, n),
        "dialogues_needed": _dialogues_needed(pooled, abs(found["change"])),
    }


def widest_sd(mean: float, n: int) -> float:
    """Return the largest sd (of n - 1) that n scores in [0, 1] with this mean can have (Bhatia, Davis 2000)."""
    return math.sqrt(mean * (1 - mean) * n / (n - 1))


def _t_interval(values: Array) -> list[float]:
    return _mean_interval(float(values.mean()), float(values.std(ddof=1)), len(values))


def _mean_interval(mean: float, sd: float, n: int) -> list[float]:
    low, high = stats.t.interval(CONFIDENCE, n - 1, mean, sd / math.sqrt(n))
    return [float(low), float(high)]


def _spread(values: Array) -> Found:
    return {
        "mean": float(values.mean()),
        "sd": float(values.std(ddof=1)),
        "min": float(values.min()),
        "max": float(values.max()),
    }


def _power(difference: float, sd: float, n: int) -> float:
    """Return the power of a two-sided t test of two samples of n with this sd (noncentral t; Cohen 1988, ch. 2)."""
    degrees = 2 * n - 2
    edge, shift = stats.t.ppf((1 + CONFIDENCE) / 2, degrees), difference / (sd * math.sqrt(2 / n))
    return float(stats.nct.sf(edge, degrees, shift) + stats.nct.cdf(-edge, degrees, shift))


def _smallest_detectable(sd: float, n: int) -> float:
    # Beyond six standard errors the noncentral t of scipy loses its tail, and no power is left to gain.
    return float(optimize.brentq(lambda difference: _power(difference, sd, n) - POWER, 0, 6 * sd * math.sqrt(2 / n)))


def _dialogues_needed(sd: float, difference: float) -> int:
    n = LAB_DIALOGUES
    while _power(difference, sd, n) < POWER:
        n += 1
    return n


def filled(page: str, tables: dict[str, str]) -> str:
    """Return the page with each table between its marks, `<!-- table NAME -->` and `<!-- end -->`.

    Raises UserError when a table has no place, or a place no table.
    """
    places = re.findall(r"<!-- table (\S+) -->", page)
    if sorted(places) != sorted(tables):
        raise UserError(f"{PAGE}: expected places for {sorted(tables)}, found {sorted(places)}; {RESTORE}")
    for name, table in tables.items():
        pattern = rf"(<!-- table {re.escape(name)} -->\n).*?(<!-- end -->)"
        page, count = re.subn(pattern, lambda m, t=table: f"{m[1]}\n{t}\n\n{m[2]}", page, flags=re.DOTALL)  # type: ignore[misc]
        if count != 1:
            raise UserError(f"{PAGE}: expected `<!-- end -->` after table {name}; {RESTORE}")
    return page


if __name__ == "__main__":
    command.run("seed_audit", main)
