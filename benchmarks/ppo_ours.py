"""Worker: this repository's PPO on one job. `python -m benchmarks.ppo_ours JOB REPORT`."""

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import command, results
from benchmarks.ppo_job import EXPERIMENT, REFERENCE_SEED, SECTIONS, Job, RewardScorer, read_job, write_report

PACKAGES = ("torch", "transformers", "peft", "numpy", "scikit-learn", "alt-profanity-check")


def main() -> None:
    """Train for the job's steps and write the report."""
    job, report = read_job(Path(sys.argv[1])), Path(sys.argv[2])
    steps = train(job)
    write_report(report, steps, results.versions(PACKAGES), results.peak_memory_mib())


def train(job: Job) -> list[dict[str, Any]]:
    """Take one PPO step a batch and return what each one took and gave."""
    from pipeline.policy.types import Prompt

    scorer = RewardScorer()
    batches = [[Prompt(name, "", tuple(token_ids)) for name, token_ids in batch] for batch in job.batches]
    trainer = _trainer(job, scorer, [prompt for batch in batches for prompt in batch])
    trainer.batch = batches.__getitem__  # the job's own order
    steps = []
    for number, batch in enumerate(job.batches, start=1):
        started = time.perf_counter()
        statistics = trainer.step(number - 1).statistics
        seconds = time.perf_counter() - started
        steps.append(
            {
                "seconds": seconds,
                "phases": dict(trainer.seconds),
                "tokens": round(statistics["objective/length"] * len(batch) * job.ppo["samples_per_prompt"]),
                "scores": scorer.taken(),
                "kl": statistics["objective/kl"],
            }
        )
        print(f"  ours: step {number}/{len(job.batches)}: {seconds:.1f} s", file=sys.stderr, flush=True)
    return steps


def _trainer(job: Job, scorer: RewardScorer, prompts: Sequence[Any]) -> Any:
    import torch

    from pipeline.config.loader import load
    from pipeline.methods.ppo.trainer import PPOTrainer
    from pipeline.policy import loading
    from pipeline.policy.making import make_policy

    torch.set_num_threads(job.threads)
    settings = load(EXPERIMENT, SECTIONS)
    ppo = type(settings.methods["ppo"]).model_validate(job.ppo)
    section = settings.model.model_copy(update={"dtype": "float32"})
    model = loading.new_policy_model(EXPERIMENT, REFERENCE_SEED, section, settings.lora)
    policy = make_policy(section.architecture, model, loading.load_tokenizer(EXPERIMENT))
    return PPOTrainer(policy, scorer.reward(), prompts, ppo, job.seed)


if __name__ == "__main__":
    command.run("bench-ppo (ours)", main)
