"""Measure our PPO against TRL 1.9.2's, the last that TRL had: `python -m benchmarks.ppo` (`make bench-ppo`).

Ours and TRL's run in turn, each in a process of its own, on the same model, LoRA, prompts, batch, lengths, epochs,
coefficients and reward.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from scipy import stats

from benchmarks import command, results
from benchmarks.ppo_job import CASES, PROMPT_TOKENS, Job, check_inputs, prompt_batches, section
from pipeline.io import records
from pipeline.io.errors import UserError

PEER_PYTHON = Path(".venv-trl") / "bin" / "python"
SYSTEMS = ("ours", "trl")
PHASES = ("complete", "analyze", "reference", "score", "optimise")
SETTINGS = (
    *("max_new_tokens", "epochs", "micro_batch_size", "learning_rate"),
    *("value_learning_rate", "kl_coef", "clip_range", "value_clip_range", "vf_coef", "gamma", "gae_lambda"),
)

Run = dict[str, Any]


def main() -> None:
    """Run both sides in turn, print the table and write benchmarks/results/ppo.json."""
    options = _options()
    check_inputs()
    if not PEER_PYTHON.exists():
        raise UserError(f"{PEER_PYTHON}: TRL's environment is not there; run `make bench-ppo`, which makes it")
    runs = [run for case in CASES for run in measure(options, case)]
    by_case = {case: [run for run in runs if run["case"] == case] for case in CASES}
    ppo = section(options.steps, next(iter(CASES)))
    result = {
        "machine": results.machine() | {"threads": options.threads},
        "versions": {run["system"]: run.pop("versions") for run in runs},
        "settings": {key: ppo[key] for key in SETTINGS}
        | {"prompt_tokens": PROMPT_TOKENS, "peer_keeps_freed_memory": options.peer_keeps_freed_memory},
        "runs": runs,
        "ratios": {f"{what}_{case}": ratio for case in CASES for what, ratio in ratios(by_case[case]).items()},
        "reward": {case: rewards(by_case[case]) for case in CASES},
    }
    for case in CASES:
        Console(highlight=False).print(table(case, by_case[case]))
        print(described(rewards(by_case[case])))
    print(f"wrote {results.write('ppo', result)}")


def measure(options: argparse.Namespace, case: str) -> list[Run]:
    """Return one run a worker for one of CASES: ours, TRL's, ours, and so on; every repetition has its own seed."""
    sides = {"ours": (Path(sys.executable), "benchmarks.ppo_ours"), "trl": (PEER_PYTHON, "benchmarks.ppo_trl")}
    seeds, ppo = range(options.repetitions), section(options.steps, case)
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:  # its libraries leave with it
        batches = process.submit(prompt_batches, seeds, options.steps, ppo["prompts_per_step"]).result()
    runs = []
    for seed in seeds:
        job = Job(seed, options.threads, options.peer_keeps_freed_memory, ppo, batches[seed])
        for system, (python, module) in sides.items():
            print(f"{case}, {system}, repetition {seed + 1}/{options.repetitions}", file=sys.stderr, flush=True)
            runs.append({"case": case, "system": system, "repetition": seed + 1, **run_worker(python, module, job)})
    return runs


def run_worker(python: Path, module: str, job: Job) -> Run:
    """Run one worker to its end and return what it reports; raise UserError when it fails.

    Its standard output, where TRL talks, is dropped; its errors are shown.
    """
    with tempfile.TemporaryDirectory() as folder:
        task, report = Path(folder) / "job.json", Path(folder) / "report.json"
        job.write(task)
        # Not resolved: .venv-trl/bin/python is a link, and where the link lies is what makes the environment.
        arguments = [str(python), "-m", module, str(task), str(report)]
        code = subprocess.run(arguments, env=_environment(job), stdout=subprocess.DEVNULL, check=False).returncode
        if code:
            raise UserError(f"{module}: ended with code {code}; its message stands above, nothing was written")
        return records.read_json(report)


def ratios(runs: Sequence[Run]) -> dict[str, results.Summary]:
    """Return TRL's median step time over ours, and our peak memory over TRL's, one ratio a repetition."""
    ours, trl = ([run for run in runs if run["system"] == system] for system in SYSTEMS)
    times = [[statistics.median(counted(run, "seconds")) for run in side] for side in (ours, trl)]
    memory = [[run["peak_memory_mib"] for run in side] for side in (ours, trl)]
    return {
        "step_time": results.ratios(times[1], times[0]),
        "peak_memory": results.ratios(memory[0], memory[1]),
    }


def counted(run: Run, key: str) -> list[float]:
    """Return one measurement of every step but the first, which warms up, where it was measured."""
    values = [step["phases"].get(key) if key in PHASES else step[key] for step in run["steps"][1:]]
    return [value for value in values if value is not None]


def late_scores(run: Run) -> list[float]:
    """Return the scores of the last third of a run's steps, in the order of the prompts."""
    steps = run["steps"][-max(1, len(run["steps"]) // 3) :]
    return [score for step in steps for score in step["scores"]]


def rewards(runs: Sequence[Run]) -> dict[str, float | None]:
    """Return the mean score of both sides over the last third of the steps, and ours minus TRL's with an interval.

    The interval is Student's, 95 %, over repetitions: the completions of one run share one trained policy. It is
    missing (None) for a single repetition.
    """
    ours, trl = ([statistics.mean(late_scores(run)) for run in runs if run["system"] == system] for system in SYSTEMS)
    differences = [mine - other for mine, other in zip(ours, trl, strict=True)]
    found: dict[str, float | None] = {
        "ours": statistics.mean(ours),
        "trl": statistics.mean(trl),
        "difference": statistics.mean(differences),
        "low": None,
        "high": None,
    }
    if len(differences) > 1:
        error = statistics.stdev(differences) / len(differences) ** 0.5
        found["low"], found["high"] = stats.t.interval(
            0.95, len(differences) - 1, statistics.mean(differences), max(error, 1e-12)
        )
    return found


def measurements(runs: Sequence[Run]) -> dict[str, list[float]]:
    """Return the table's rows for the runs of one system: steps pooled over repetitions, memory and reward one each."""
    pooled = {
        phase: [value for run in runs for value in counted(run, phase)] for phase in ("seconds", *PHASES, "tokens")
    }
    pace = [tokens / seconds for tokens, seconds in zip(pooled.pop("tokens"), pooled["seconds"], strict=True)]
    return {
        "seconds a step": pooled.pop("seconds"),
        **{f"  {phase}": values for phase, values in pooled.items()},
        "tokens a second": pace,
        "peak memory, MiB": [run["peak_memory_mib"] for run in runs],
        "reward at the end": [statistics.mean(late_scores(run)) for run in runs],
        "reward, all steps": [
            statistics.mean(score for step in run["steps"] for score in step["scores"]) for run in runs
        ],
    }


def table(case: str, runs: Sequence[Run]) -> Table:
    """Return median (min to max) of every measurement of both sides of a case, and the two ratios."""
    found = ratios(runs)
    ratio = {"seconds a step": found["step_time"], "peak memory, MiB": found["peak_memory"]}
    sheet = Table("", "ours", "TRL 1.9.2", "ratio", box=box.SIMPLE_HEAD, pad_edge=False)
    sheet.title = f"PPO, {case.replace('x', ' prompts x ')} samples: median and range"
    ours, trl = (measurements([run for run in runs if run["system"] == system]) for system in SYSTEMS)
    for name, values in ours.items():
        sheet.add_row(name, _cell(values), _cell(trl[name]), results.spread(ratio[name]) if name in ratio else "")
    sheet.caption = "ratio: TRL / ours for time, ours / TRL for memory, one a repetition; end: the last third"
    return sheet


def described(found: dict[str, float | None]) -> str:
    """Return the difference of the rewards with what chance alone would make of it, as one line."""
    line = f"reward at the end, ours - TRL: {found['difference']:+.3f}"
    if found["low"] is None:
        return f"{line}; one repetition gives no interval"
    return f"{line}, 95 % interval over repetitions {found['low']:+.3f} to {found['high']:+.3f}"


def _cell(values: Sequence[float]) -> str:
    return results.spread(results.summary(values)) if values else "not measured"


def _environment(job: Job) -> dict[str, str]:
    """Give both sides the same threads, the CPU, no network and no warnings of what libraries will change one day."""
    threads = {"OMP_NUM_THREADS": str(job.threads), "MKL_NUM_THREADS": str(job.threads)}
    offline = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    quiet = {"PYTHONWARNINGS": "ignore::FutureWarning", "TRL_EXPERIMENTAL_SILENCE": "1"}
    return {**os.environ, **threads, **offline, **quiet, "DEVICE": "cpu", "CUDA_VISIBLE_DEVICES": ""}


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ppo", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--steps", type=int, default=10, help="PPO steps a run, 2 or more; the first is a warm-up (10)")
    parser.add_argument("--repetitions", type=int, default=3, help="runs of each side, in turn (3)")
    parser.add_argument("--threads", type=int, default=results.cores(), help="of torch, both sides (all usable cores)")
    parser.add_argument(
        "--peer-keeps-freed-memory",
        action="store_true",
        help="give TRL's process the allocator setting that ours has, to see how much of the ratio is that",
    )
    options = parser.parse_args()
    if options.steps < 2 or options.repetitions < 1 or options.threads < 1:
        parser.error("expected --steps of 2 or more, --repetitions and --threads of 1 or more")
    return options


if __name__ == "__main__":
    command.run("bench-ppo", main)
