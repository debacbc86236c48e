"""Measure our sampler against `model.generate`: `python -m benchmarks.sampling` (`make bench-sampling`).

Same weights, same prompts, one batch, the whole distribution; and a test that both draw from the same one.
"""

import argparse
import os
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks import command, distribution, results
from benchmarks.ppo_job import check_inputs
from pipeline.evaluation.inference import holm

if TYPE_CHECKING:
    from benchmarks.sampling_cases import Case

ERROR_RATE = 0.01  # of all tests together: how often a right sampler would be called wrong
RESAMPLES = 9_999
FIRST_TOKEN_PROMPTS, FIRST_TOKENS = 4, 4096
# Fixed before anything was measured, and apart from those of the timed calls: 0, 1, 2 and so on.
FIRST_TOKEN_SEED, TEST_SEED = 100_000, 200_000
PACKAGES = ("torch", "transformers", "peft", "numpy", "scipy")

Run = dict[str, Any]
Draws = dict[str, list[distribution.Drawn]]


def main() -> None:
    """Time both samplers in turn, test the distribution, print the table and write benchmarks/results/sampling.json."""
    options = _options()
    check_inputs()
    os.environ.setdefault("DEVICE", "cpu")
    import torch

    from benchmarks.sampling_cases import cases

    torch.set_num_threads(options.threads)
    runs: list[Run] = []
    verdict: dict[str, Any] = {}
    for case in cases(options.batch, options.new_tokens):
        timed, draws = measure(case, options.repetitions)
        runs += timed
        verdict = verdict or compare(case, draws)  # of the first case, the policy with an adapter
    found = ratios(runs)
    names = list(found)
    result = {
        "machine": results.machine() | {"threads": options.threads, "device": str(os.environ["DEVICE"])},
        "versions": results.versions(PACKAGES),
        "settings": {"batch": options.batch, "new_tokens": options.new_tokens, "temperature": 1.0, "dtype": "float32"},
        "runs": runs,
        "ratios": {"tokens_per_second": found[names[0]], "tokens_per_second_base": found["base"]},
        "distribution": {"policy": names[0], **verdict},
    }
    Console(highlight=False).print(table(runs))
    print(described(verdict))
    print(f"wrote {results.write('sampling', result)}")
    sys.exit(0 if verdict["same"] else 1)


def measure(case: "Case", repetitions: int) -> tuple[list[Run], Draws]:
    """Time both samplers in turn, after one uncounted call each; return the runs and all that was drawn."""
    samplers = {"ours": case.ours, "generate": case.generate}
    runs: list[Run] = []
    draws: Draws = {name: [] for name in samplers}
    for seed in range(repetitions + 1):
        for name, sampler in samplers.items():
            started = time.perf_counter()
            drawn = sampler(seed)
            seconds = time.perf_counter() - started
            tokens = sum(len(item.tokens) for item in drawn)
            print(f"  {case.name}, {name} {seed}/{repetitions}: {seconds:.1f} s", file=sys.stderr, flush=True)
            if seed > 0:
                draws[name] += drawn
                runs.append(
                    {"policy": case.name, "sampler": name, "repetition": seed, "seconds": seconds, "tokens": tokens}
                    | {"tokens_per_second": tokens / seconds}
                )
    return runs, draws


def compare(case: "Case", draws: Draws) -> dict[str, Any]:
    """Test that our completions come from the distribution of `generate`'s and of the model itself.

    `same` is True when no p-value, corrected for their number (Holm), is at most the error rate. The control is the
    same question asked of `generate` alone: it tells a wrong test from a wrong sampler and is no part of the verdict.
    """
    print("  testing the distribution", file=sys.stderr, flush=True)
    exact = {name: distribution.exact(case.model, drawn) for name, drawn in draws.items()}
    samples = {
        name: (distribution.logprobs(exact[name]), [item.prompt_id for item in drawn]) for name, drawn in draws.items()
    }
    p_values = {
        "completion log-probabilities, ours and generate": distribution.two_sample_p(
            samples["ours"], samples["generate"], RESAMPLES, TEST_SEED
        ),
        "every token's rank, ours and exact": distribution.token_rank_p(exact["ours"], TEST_SEED),
    }
    for number, prompt in enumerate(case.prompts[:FIRST_TOKEN_PROMPTS], start=1):
        tokens = case.first_tokens(prompt, FIRST_TOKENS, FIRST_TOKEN_SEED)
        probabilities = distribution.first_token_probabilities(case.model, prompt.token_ids)
        p_values[f"first token of prompt {number}, ours and exact"] = distribution.first_token_p(tokens, probabilities)
    corrected = holm(p_values)
    return {
        "same": all(p > ERROR_RATE for p in corrected.values()),
        "error_rate": ERROR_RATE,
        "completions": {name: len(drawn) for name, drawn in draws.items()},
        "first_tokens": FIRST_TOKENS,
        "tests": {name: {"p": p, "p_holm": corrected[name]} for name, p in p_values.items()},
        "control": {
            "every token's rank, generate and exact": {"p": distribution.token_rank_p(exact["generate"], TEST_SEED)}
        },
    }


def ratios(runs: Sequence[Run]) -> dict[str, results.Summary]:
    """Return our tokens a second over those of `generate` for every policy, one ratio a repetition."""
    pace: dict[str, dict[str, list[float]]] = {}
    for run in runs:
        pace.setdefault(run["policy"], {}).setdefault(run["sampler"], []).append(run["tokens_per_second"])
    return {policy: results.ratios(of["ours"], of["generate"]) for policy, of in pace.items()}


def table(runs: Sequence[Run]) -> Table:
    """Return tokens a second of both samplers and their ratio for every policy."""
    sheet = Table("tokens a second", "ours", "generate", "ratio", box=box.SIMPLE_HEAD, pad_edge=False)
    sheet.title = "Sampling: median and range"
    for policy, ratio in ratios(runs).items():
        pace = {
            name: results.summary(
                [run["tokens_per_second"] for run in runs if (run["policy"], run["sampler"]) == (policy, name)]
            )
            for name in ("ours", "generate")
        }
        sheet.add_row(policy, *(results.spread(pace[name]) for name in pace), results.spread(ratio))
    return sheet


def described(verdict: dict[str, Any]) -> str:
    """Return the verdict and every p-value, one a line."""
    lines = [
        f"  p {test['p']:.4f}, corrected for {len(verdict['tests'])} tests {test['p_holm']:.4f}: {name}"
        for name, test in verdict["tests"].items()
    ]
    lines += [f"  p {test['p']:.4f} (control): {name}" for name, test in verdict["control"].items()]
    word = "no difference found" if verdict["same"] else "DIFFERENT"
    return "\n".join(
        [f"distribution: {word} at an error rate of {verdict['error_rate']} for all tests together", *lines]
    )


def _options() -> argparse.Namespace:
    summary = (__doc__ or "").split("\n")[0]
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sampling", description=summary)
    parser.add_argument("--repetitions", type=int, default=5, help="timed calls of each sampler, in turn (5)")
    parser.add_argument("--batch", type=int, default=64, help="prompts, all in one batch (64)")
    parser.add_argument("--new-tokens", type=int, default=32, help="tokens a completion (32)")
    parser.add_argument("--threads", type=int, default=results.cores(), help="of torch (all usable cores)")
    options = parser.parse_args()
    if min(vars(options).values()) < 1:
        parser.error("expected 1 or more everywhere")
    return options


if __name__ == "__main__":
    command.run("bench-sampling", main)
