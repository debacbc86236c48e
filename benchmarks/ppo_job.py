"""What both sides of the PPO benchmark are given: one file with settings and token ids, so that neither can differ."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pipeline.config.loader import load
from pipeline.io import paths, records
from pipeline.io.errors import UserError

EXPERIMENT = "smollm2-rtp"
REFERENCE_SEED = 0  # whose base and manifest are read; the seed of a run is its repetition
SECTIONS = ("model", "lora", "reward", "methods.ppo")
PROMPT_TOKENS = 24
# Prompts a step and samples of each: every prompt once, and groups that share a prompt.
CASES = {"16x1": (16, 1), "6x8": (6, 8)}
READ = 16  # completions a backward pass, and those that TRL reads at once without gradient
REMEDY = f"run `dvc repro reference@{EXPERIMENT}-{REFERENCE_SEED}`"

# The default experiment's section `methods.ppo` but for these: the setting of the first measurement (samples of 24 + 16
# tokens, 2 epochs, one minibatch). Off on both sides, or off in ours because TRL's PPO has it not: a warm-up, gradient
# clipping, a KL controller, an early end of the updates, scaled or clipped scores, whitened rewards, a penalty for a
# missing EOS.
SETTING: dict[str, Any] = {
    "max_new_tokens": 16,
    "epochs": 2,
    "micro_batch_size": READ,
    "warmup_steps": 0,
    "max_grad_norm": 1e9,
    "value_clip_range": 0.2,  # TRL's PPO always clips values
    "kl_target": None,
    "max_approx_kl": None,
    "score_scaling": "none",
    "score_clip": None,
    "missing_eos_penalty": 0.0,
    "whiten_rewards": False,
    "whiten_advantages": True,  # TRL always does
}


@dataclass(frozen=True)
class Job:
    """One worker's task. `batches` holds [id, token ids] of every prompt of every step, in order, once for all of its
    samples; `ppo` is the whole section. With `keep_freed_memory` TRL's process gets the allocator setting of ours."""

    seed: int
    threads: int
    keep_freed_memory: bool
    ppo: dict[str, Any]
    batches: list[list[tuple[str, list[int]]]]

    def write(self, path: Path) -> None:
        """Write the job as JSON."""
        path.write_text(json.dumps(asdict(self)), encoding="utf-8")


def read_job(path: Path) -> Job:
    """Read what `Job.write` wrote."""
    return Job(**json.loads(path.read_text(encoding="utf-8")))


def section(steps: int, case: str) -> dict[str, Any]:
    """Return the checked `ppo` section of one case of the benchmark, for that many steps."""
    ppo = load(EXPERIMENT, SECTIONS).methods["ppo"]
    prompts, samples = CASES[case]
    sizes = {"prompts_per_step": prompts, "samples_per_prompt": samples, "minibatch_size": prompts * samples}
    return dict(type(ppo).model_validate(ppo.model_dump() | SETTING | sizes | {"steps": steps}).model_dump())


def check_inputs() -> None:
    """Raise UserError when the model, its reference manifest or the prompts are not there."""
    needed = [
        paths.base_model(EXPERIMENT) / "config.json",
        paths.adapter(EXPERIMENT, REFERENCE_SEED, "reference") / "manifest.json",
        paths.formatted(EXPERIMENT, "train"),
    ]
    absent = [path for path in needed if not path.exists()]
    if absent:
        raise UserError(f"{absent[0]}: not found; {REMEDY}")


def prompt_batches(seeds: Sequence[int], steps: int, size: int) -> list[list[list[tuple[str, list[int]]]]]:
    """Return the batches of every seed: train prompts of at least PROMPT_TOKENS tokens, cut there, drawn by it.

    Equal lengths keep padding out of the comparison. Imports torch and transformers: call it in a process of its own.
    """
    import random

    from pipeline.data.schema import read_prompts
    from pipeline.policy import loading
    from pipeline.policy.prompts import tokenize_prompts

    file = paths.formatted(EXPERIMENT, "train")
    tokenizer = loading.load_tokenizer(EXPERIMENT)
    prompts = tokenize_prompts(read_prompts(file), tokenizer, load(EXPERIMENT, SECTIONS).model, file)
    long = [prompt for prompt in prompts if len(prompt.token_ids) >= PROMPT_TOKENS]
    return [
        [
            [(prompt.id, list(prompt.token_ids[:PROMPT_TOKENS])) for prompt in source.sample(long, size)]
            for _ in range(steps)
        ]
        for source in map(random.Random, seeds)
    ]


class RewardScorer:
    """The default experiment's reward scorer, the same function on both sides; it keeps the scores that it gave."""

    def __init__(self) -> None:
        from pipeline.scorers.loading import load_reward_scorer

        settings = load(EXPERIMENT, SECTIONS)
        self._scorer = load_reward_scorer(settings.reward, EXPERIMENT)
        self._reward = settings.reward
        self._given: list[float] = []

    def reward(self) -> Any:
        """Return what our trainer asks for scores."""
        from pipeline.scorers.reward import Reward

        return Reward(self._reward, self._scorer, lambda texts: list(self._known(texts)))

    def scores(self, texts: Sequence[str]) -> list[float]:
        """Return every text's score, what TRL asks for: offset - scale x toxicity, as our trainer has it."""
        return [self._score(value) for value in self._known(texts)]

    def taken(self) -> list[float]:
        """Return the scores that were given since the last call, in the order of the step's prompts."""
        given, self._given = self._given, []
        return given

    def _known(self, texts: Sequence[str]) -> list[float]:
        """Raise RuntimeError where there is no toxicity: our trainer would leave the completion out, TRL cannot."""
        found = [value for value in self._scorer.score(texts) if value is not None]
        if len(found) < len(texts):
            raise RuntimeError(f"{len(texts) - len(found)} of {len(texts)} completions could not be scored")
        self._given += [self._score(value) for value in found]
        return found

    def _score(self, toxicity: float) -> float:
        return float(self._reward.offset - self._reward.scale * toxicity)


def write_report(path: Path, steps: Sequence[dict[str, Any]], versions: dict[str, str], peak_memory_mib: float) -> None:
    """Write what a worker measured: for every step seconds, seconds by phase, tokens, scores and KL."""
    records.write_json(path, {"steps": list(steps), "versions": versions, "peak_memory_mib": peak_memory_mib})
