"""Measure the evaluation's statistics on one core: `python -m benchmarks.statistics` (`make bench-statistics`).

Every number of a table of methods from made-up toxicities, part by part; the means also by `scipy.stats.bootstrap`.
"""

import argparse
import os
import sys
import time
from collections.abc import Callable, Sequence
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table
from threadpoolctl import threadpool_limits

from benchmarks import command, results
from pipeline.evaluation import baselines, inference, judges, statistics, toxicity
from pipeline.evaluation.measure import expected
from pipeline.evaluation.metrics.perplexity_median import median_replicates
from pipeline.evaluation.statistics import Array, Resampling

POLICIES = ("reference", "sft", "ppo", "dpo")
METHODS = POLICIES[1:]
JUDGES = ("held-out", "reward", "words")
SIZES = (1, 2, 4, 8, 16, 25)  # k of the expected maximum, as far as there are samples
CONFIDENCE, THRESHOLD, SEED = 0.95, 0.5, 0
RATE = {"value": 0.85, "windows": 300}  # sensitivity and specificity of every judge
RESAMPLES, MEANS, ALL = "resamples", "means and differences", "all"
SCIPY = "the means by scipy"
PACKAGES = ("numpy", "scipy", "scikit-learn")

Run = dict[str, Any]
Cells = dict[str, dict[str, dict[str, Array]]]  # policy -> judge -> metric -> [P, S]


class Job(NamedTuple):
    """Toxicities [P, S, K] by policy and judge, perplexities [P, S, K] by policy, and the number of resamples."""

    toxicities: dict[str, dict[str, Array]]
    perplexities: dict[str, Array]
    resamples: int

    @property
    def shape(self) -> tuple[int, int, int]:
        """P, S and K."""
        prompts, seeds, samples = self.perplexities["reference"].shape
        return prompts, seeds, samples


def main() -> None:
    """Time every part in turn with scipy's bootstrap, print the table and write benchmarks/results/statistics.json."""
    options = _options()
    machine = results.machine() | {"threads": 1}
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    with threadpool_limits(limits=1):
        runs = [
            run
            for seeds in sorted({1, options.seeds})
            for run in measure(
                make_job(options.prompts, seeds, options.samples, options.resamples), options.repetitions
            )
        ]
    one_seed = [run["seconds"] for run in runs if run["seeds"] == 1]
    ours = [seconds[RESAMPLES] + seconds[MEANS] for seconds in one_seed]  # scipy's draws its resamples too
    found = results.ratios([seconds[SCIPY] for seconds in one_seed], ours)
    result = {
        "machine": machine,
        "versions": results.versions(PACKAGES),
        "settings": vars(options) | {"policies": len(POLICIES), "judges": len(JUDGES), "confidence": CONFIDENCE},
        "runs": runs,
        "ratios": {"seconds_means": found},
    }
    Console(highlight=False).print(table(runs))
    print(f"scipy.stats.bootstrap takes {results.spread(found)} times as long for the same {MEANS} of one seed")
    print(f"wrote {results.write('statistics', result)}")


def make_job(prompts: int, seeds: int, samples: int, resamples: int) -> Job:
    """Make up toxicities: a few prompts are very toxic, most are not; some methods help, on most prompts."""
    generator = np.random.default_rng(SEED)
    level = generator.beta(1.2, 2.8, size=(prompts, 1, 1))
    shape = (prompts, seeds, samples)
    return Job(
        toxicities={
            policy: {
                judge: np.clip(level - 0.05 * index + generator.normal(0, 0.2, size=shape), 0, 1) for judge in JUDGES
            }
            for index, policy in enumerate(POLICIES)
        },
        perplexities={policy: generator.lognormal(3, 1, size=shape) for policy in POLICIES},
        resamples=resamples,
    )


def measure(job: Job, repetitions: int) -> list[Run]:
    """Return the seconds of every part, one run a repetition, after one uncounted pass."""
    runs: list[Run] = []
    for repetition in range(repetitions + 1):
        print(f"  {job.shape[1]} seed(s): {repetition}/{repetitions}", file=sys.stderr, flush=True)
        seconds = evaluate(job)
        if job.shape[1] == 1:
            seconds[SCIPY] = _timed(lambda: scipy_means(job))[0]
        if repetition > 0:  # the first loads what is imported late
            runs.append({"seeds": job.shape[1], "repetition": repetition, "seconds": seconds})
    return runs


def evaluate(job: Job) -> dict[str, float]:
    """Compute every statistic of an evaluation; return the seconds of each part and of all."""
    prompts, seeds, _ = job.shape
    seconds: dict[str, float] = {}
    seconds[RESAMPLES], resampling = _timed(lambda: statistics.draw(prompts, seeds, job.resamples, SEED))
    started = time.perf_counter()
    cells: Cells = {
        policy: {judge: toxicity.prompt_statistics(array, THRESHOLD) for judge, array in judged.items()}
        for policy, judged in job.toxicities.items()
    }
    means(cells, resampling)
    seconds[MEANS] = time.perf_counter() - started
    parts: dict[str, Callable[[], None]] = {
        "expected maximum at k": lambda: maxima(job, resampling),
        "prevalence and hacking gap": lambda: prevalence_and_hacking(cells, resampling),
        "agreement of judges": lambda: agreements(job),
        "p-values and power": lambda: comparisons(cells, job.resamples),
        "reranking at k": lambda: reranking(job, resampling),
        "median perplexity": lambda: medians(job, resampling),
    }
    seconds |= {name: _timed(part)[0] for name, part in parts.items()}
    return seconds | {ALL: sum(seconds.values())}


def means(cells: Cells, resampling: Resampling) -> None:
    """All four metrics of every policy and judge, and their paired differences to the reference, with intervals."""
    for policy, judged in cells.items():
        for judge, arrays in judged.items():
            statistics.mean_intervals(arrays, resampling, CONFIDENCE, bounds=(0, 1))
            if policy in METHODS:
                paired = toxicity.paired_differences(arrays, cells["reference"][judge])
                statistics.mean_intervals(paired, resampling, CONFIDENCE)


def maxima(job: Job, resampling: Resampling) -> None:
    """The expected maximum at every k, of every policy and judge."""
    for judged in job.toxicities.values():
        for array in judged.values():
            at_k = {str(k): toxicity.expected_max_at(array, k) for k in _sizes(job)}
            statistics.mean_intervals(at_k, resampling, CONFIDENCE, bounds=(0, 1))


def prevalence_and_hacking(cells: Cells, resampling: Resampling) -> None:
    """The corrected prevalence of every policy and judge, and the gap between the reward scorer and every other."""
    for policy, judged in cells.items():
        for arrays in judged.values():
            judges.corrected_prevalence(arrays["toxic_fraction"], resampling, RATE, RATE, CONFIDENCE, SEED)
        if policy in METHODS:
            one, reference = (
                {judge: arrays["toxicity_mean"] for judge, arrays in cells[name].items()}
                for name in (policy, "reference")
            )
            for judge in set(JUDGES) - {"reward"}:
                judges.hacking_gap(
                    one["reward"], reference["reward"], one[judge], reference[judge], resampling, CONFIDENCE
                )


def agreements(job: Job) -> None:
    """How far each two judges agree on all completions."""
    pooled = {judge: np.concatenate([judged[judge] for judged in job.toxicities.values()]) for judge in JUDGES}
    for first, second in combinations(JUDGES, 2):
        judges.agreement(pooled[first], pooled[second], THRESHOLD)


def comparisons(cells: Cells, resamples: int) -> None:
    """The corrected p-value and the smallest detectable difference of each two policies."""
    by_policy = {policy: judged["held-out"]["toxicity_mean"] for policy, judged in cells.items()}
    differences = {
        f"{first} - {second}": by_policy[first] - by_policy[second] for first, second in combinations(by_policy, 2)
    }
    inference.holm({name: inference.sign_flip_p(array, resamples, SEED) for name, array in differences.items()})
    for array in differences.values():
        inference.smallest_detectable(array, CONFIDENCE)


def reranking(job: Job, resampling: Resampling) -> None:
    """The reference's best of k samples by the reward scorer, judged by another, at every k."""
    judged = job.toxicities["reference"]
    at_k = {str(k): expected(judged["held-out"], baselines.rerank_weights(judged["reward"], k)) for k in _sizes(job)}
    statistics.mean_intervals(at_k, resampling, CONFIDENCE, bounds=(0, 1))


def medians(job: Job, resampling: Resampling) -> None:
    """The bootstrap replicates of every policy's median perplexity."""
    for values in job.perplexities.values():
        median_replicates(values, resampling)


def scipy_means(job: Job) -> None:
    """The same means and differences of one seed, each by a percentile bootstrap of scipy's own."""
    from scipy.stats import bootstrap

    cells = {
        policy: {judge: toxicity.prompt_statistics(array, THRESHOLD) for judge, array in judged.items()}
        for policy, judged in job.toxicities.items()
    }
    for policy, judged in cells.items():
        for judge, arrays in judged.items():
            samples = list(arrays.values())
            if policy in METHODS:
                samples += toxicity.paired_differences(arrays, cells["reference"][judge]).values()
            for sample in samples:
                bootstrap((sample[:, 0],), np.mean, n_resamples=job.resamples, method="percentile", rng=SEED)


def table(runs: Sequence[Run]) -> Table:
    """Return the seconds of every part, one column a number of seeds."""
    columns = sorted({run["seeds"] for run in runs})
    sheet = Table("seconds", *(f"{seeds} seed(s)" for seeds in columns), box=box.SIMPLE_HEAD, pad_edge=False)
    sheet.title = "Statistics of an evaluation on one core: median and range"
    for part in runs[0]["seconds"]:
        found = [[run["seconds"].get(part) for run in runs if run["seeds"] == seeds] for seeds in columns]
        sheet.add_row(part, *(results.spread(results.summary(values)) if values[0] else "" for values in found))
    return sheet


def _sizes(job: Job) -> list[int]:
    return [k for k in SIZES if k <= job.shape[2]]


def _timed(part: Callable[[], Any]) -> tuple[float, Any]:
    started = time.perf_counter()
    result = part()
    return time.perf_counter() - started, result


def _options() -> argparse.Namespace:
    summary = (__doc__ or "").split("\n")[0]
    parser = argparse.ArgumentParser(prog="python -m benchmarks.statistics", description=summary)
    parser.add_argument("--repetitions", type=int, default=5, help="timed passes (5)")
    parser.add_argument("--prompts", type=int, default=200, help="prompts of the evaluation (200)")
    parser.add_argument("--samples", type=int, default=25, help="samples of each (25)")
    parser.add_argument("--seeds", type=int, default=3, help="seeds of the second case; the first has one (3)")
    parser.add_argument("--resamples", type=int, default=10_000, help="of the bootstrap and the permutations (10,000)")
    options = parser.parse_args()
    if min(vars(options).values()) < 1:
        parser.error("expected 1 or more everywhere")
    return options


if __name__ == "__main__":
    command.run("bench-statistics", main)
