"""Worker: TRL's PPO on one job, in its own environment. `python -m benchmarks.ppo_trl JOB REPORT`."""

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    TrainerCallback,
    set_seed,
)
from transformers.trainer_callback import PrinterCallback
from transformers.utils.logging import disable_progress_bar, set_verbosity_error

from benchmarks import command, results
from benchmarks.ppo_job import EXPERIMENT, PROMPT_TOKENS, READ, SECTIONS, Job, RewardScorer, read_job, write_report
from benchmarks.text_reward import TextReward
from pipeline.config.loader import load
from pipeline.io import paths, process

PACKAGES = ("trl", "torch", "transformers", "peft", "accelerate", "numpy", "scikit-learn", "alt-profanity-check")


class Clock:
    """Seconds by phase of the step that runs, gathered by wrapping what TRL's loop calls.

    optimise runs from the first forward pass with gradient to the end of the step. What is in no phase (advantages,
    statistics, garbage collection) is in the step alone.
    """

    def __init__(self, reward_model: nn.Module) -> None:
        self.phases: dict[str, float] = {}
        self._reward_model = reward_model
        self._optimise_started: float | None = None

    def patch(self, module: Any) -> None:
        """Wrap the functions of TRL's PPO module."""
        forward, get_reward = module.forward, module.get_reward
        module.batch_generation = self._timed("complete", module.batch_generation)

        def timed_forward(*arguments: Any) -> Any:
            if torch.is_grad_enabled():
                self._optimise_started = self._optimise_started or time.perf_counter()
                return forward(*arguments)
            return self._timed("reference", forward)(*arguments)

        def timed_reward(model: nn.Module, *arguments: Any) -> Any:
            # TRL keeps log-probabilities from sampling, so its analysis is the value model's pass alone.
            phase = "score" if model is self._reward_model else "analyze"
            return self._timed(phase, get_reward)(model, *arguments)

        module.forward, module.get_reward = timed_forward, timed_reward

    def end_step(self) -> dict[str, float]:
        """Return the phases of the step that ends and start anew."""
        started, phases = self._optimise_started, self.phases
        self.phases, self._optimise_started = {}, None
        return phases if started is None else phases | {"optimise": time.perf_counter() - started}

    def _timed(self, phase: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*arguments: Any) -> Any:
            started = time.perf_counter()
            output = function(*arguments)
            self.phases[phase] = self.phases.get(phase, 0.0) + time.perf_counter() - started
            return output

        return timed


class Watch(TrainerCallback):
    """Note what every step took and gave."""

    def __init__(self, clock: Clock, reward_model: TextReward, scorer: RewardScorer, total: int) -> None:
        self.steps: list[dict[str, Any]] = []
        self._clock, self._reward_model, self._scorer, self._total = clock, reward_model, scorer, total
        self._tokens = 0
        self._logs: dict[str, float] = {}

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        """Start the first step."""
        self._started = time.perf_counter()

    def on_log(self, *_: Any, **given: Any) -> None:
        """Keep the step's statistics; TRL logs every step just before its end."""
        self._logs = given["logs"]

    def on_step_end(self, *_: Any, **__: Any) -> None:
        """Note the step; the next one starts here, so that nothing of TRL's loop is left out."""
        now = time.perf_counter()
        seconds, self._started = now - self._started, now
        tokens, self._tokens = self._reward_model.tokens - self._tokens, self._reward_model.tokens
        self.steps.append(
            {
                "seconds": seconds,
                "phases": self._clock.end_step(),
                "tokens": tokens,
                "scores": self._scorer.taken(),
                "kl": self._logs["objective/kl"],
            }
        )
        print(f"  TRL: step {len(self.steps)}/{self._total}: {seconds:.1f} s", file=sys.stderr, flush=True)


def main() -> None:
    """Train for the job's steps and write the report."""
    job, report = read_job(Path(sys.argv[1])), Path(sys.argv[2])
    torch.set_num_threads(job.threads)
    disable_progress_bar()
    set_verbosity_error()
    if job.keep_freed_memory:
        process.keep_freed_memory()
    with tempfile.TemporaryDirectory() as scratch:
        steps = train(job, Path(scratch))
    write_report(report, steps, results.versions(PACKAGES), results.peak_memory_mib())


def train(job: Job, scratch: Path) -> list[dict[str, Any]]:
    """Let TRL take one step a batch, in the order given, and return what each one took and gave."""
    from datasets import Dataset
    from trl.experimental.ppo import PPOTrainer, ppo_trainer

    settings = load(EXPERIMENT, SECTIONS)
    folder = paths.base_model(EXPERIMENT)
    scorer = RewardScorer()
    tokenizer, reward_model = _tokenizer_and_reward(folder, scorer)
    clock = Clock(reward_model)
    clock.patch(ppo_trainer)
    watch = Watch(clock, reward_model, scorer, len(job.batches))
    policy, value_model = _models(folder)
    set_seed(0)  # of the LoRA's A, as in pipeline.policy.loading
    samples = job.ppo["samples_per_prompt"]
    rows = [ids for batch in job.batches for _, ids in batch for _ in range(samples)]
    trainer = PPOTrainer(
        args=_arguments(job, scratch),
        processing_class=tokenizer,
        model=policy,
        ref_model=None,  # with PEFT the reference is the adapter switched off
        reward_model=reward_model,
        value_model=value_model,
        train_dataset=Dataset.from_dict({"input_ids": rows}),
        callbacks=[watch],
        peft_config=_lora(settings.lora),
    )
    trainer.remove_callback(PrinterCallback)
    rollout = samples * job.ppo["prompts_per_step"]
    in_order = DataLoader(trainer.train_dataset, batch_size=rollout, collate_fn=trainer.data_collator)
    trainer.dataloader = trainer.accelerator.prepare(in_order)  # TRL's own shuffles
    trainer.train()
    return watch.steps


def _models(folder: Path) -> tuple[Any, Any]:
    """Return the policy and the value model, which TRL wants to be a whole one; its values start at zero."""
    policy = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    value_model = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=1, dtype=torch.float32)
    nn.init.zeros_(value_model.score.weight)
    return policy, value_model


def _lora(lora: Any) -> Any:
    from peft import LoraConfig, TaskType

    return LoraConfig(
        task_type=TaskType.CAUSAL_LM,
        r=lora.r,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=list(lora.target_modules),
    )


def _arguments(job: Job, scratch: Path) -> Any:
    from trl.experimental.ppo import PPOConfig

    ppo = job.ppo
    micro, rollout = ppo["micro_batch_size"], ppo["prompts_per_step"] * ppo["samples_per_prompt"]
    return PPOConfig(
        output_dir=str(scratch),
        seed=job.seed,
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        per_device_train_batch_size=micro,
        gradient_accumulation_steps=rollout // micro,
        num_mini_batches=rollout // ppo["minibatch_size"],
        local_rollout_forward_batch_size=READ,
        total_episodes=ppo["steps"] * rollout,
        num_ppo_epochs=ppo["epochs"],
        response_length=ppo["max_new_tokens"],
        stop_token="eos",
        temperature=1.0,
        missing_eos_penalty=None,
        learning_rate=ppo["learning_rate"],
        lr_scheduler_type="linear",
        warmup_steps=ppo["warmup_steps"],
        weight_decay=0.0,
        kl_coef=ppo["kl_coef"],
        kl_estimator="k1",
        whiten_rewards=ppo["whiten_rewards"],
        cliprange=ppo["clip_range"],
        cliprange_value=ppo["value_clip_range"],
        vf_coef=ppo["vf_coef"],
        gamma=ppo["gamma"],
        lam=ppo["gae_lambda"],
        num_sample_generations=0,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )


def _tokenizer_and_reward(folder: Path, scorer: RewardScorer) -> tuple[Any, TextReward]:
    tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")

    def decode(token_ids: list[int]) -> str:
        return str(tokenizer.decode(token_ids, skip_special_tokens=True))

    # TRL takes every pad token in a completion for padding, so EOS cannot be it; the id is never fed to a model.
    tokenizer.add_special_tokens({"pad_token": "[PAD]"})
    return tokenizer, TextReward(scorer.scores, decode, PROMPT_TOKENS)


if __name__ == "__main__":
    command.run("bench-ppo (TRL)", main)
