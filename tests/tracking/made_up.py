"""The outputs of made-up stage executions, and a look into the MLflow store that shows them."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from pipeline.config.loader import load
from pipeline.io import paths
from pipeline.io.hashing import adapter_fingerprint
from pipeline.io.records import write_json, write_jsonl
from pipeline.tracking.address import tracking_uri
from tests.smoke import workspace

EXPERIMENT = "smollm2-rtp"
ROOT = Path(__file__).resolve().parents[2]
STAGE = f"""
from pipeline.apps.stage import Node, run_stage
node = Node(("experiment", "seed", "method"), ("methods.{{method}}",))
run_stage("train", node, lambda stage: print("worked"), None, ["{EXPERIMENT}", "0", "ppo"])
"""
CURVES = [(step, {"objective/score": 0.1 * step, "policy/loss": 1 / (step + 1)}) for step in range(40)]


def lay_out() -> None:
    """Write parameters and DAG into the working directory, as a clone has them."""
    paths.experiment_file(EXPERIMENT).parent.mkdir()
    shutil.copy(ROOT / paths.experiment_file(EXPERIMENT), paths.experiment_file(EXPERIMENT))
    write_roster([0])
    shutil.copy(ROOT / "dvc.yaml", "dvc.yaml")


def write_roster(seeds: list[int]) -> None:
    """Write params.yaml as where the experiment names two methods."""
    Path("params.yaml").write_text(
        yaml.safe_dump(workspace.roster([EXPERIMENT], seeds, ["sft", "ppo"]), sort_keys=False)
    )


def sections(stage: str) -> tuple[str, ...]:
    """Return the sections of the experiment file that dvc.yaml declares for a stage."""
    node = yaml.safe_load(Path("dvc.yaml").read_text())["stages"][stage]
    declared = node.get("do", node)["params"]
    return tuple(next(names for item in declared for file, names in item.items() if file.startswith("experiments/")))


def params(stage: str) -> dict[str, Any]:
    """Return what pipeline.apps.stage hands to tracking."""
    return load(EXPERIMENT, sections(stage)).flattened()


def leave_inputs(seed: int = 0) -> None:
    """Write the data sets of the trainings."""
    write_jsonl(paths.formatted(EXPERIMENT, "train"), [{"prompt": "a silly day"}])
    write_jsonl(paths.preferences(EXPERIMENT, seed), [{"chosen": "fine", "rejected": "darn"}])


def leave_adapter(policy: str, seed: int = 0, size: int = 100) -> Path:
    """Write an adapter folder of `size` times a few bytes, with a pickle in it that does not belong there."""
    folder = paths.adapter(EXPERIMENT, seed, policy)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "adapter_model.safetensors").write_bytes(f"weights of {policy} {seed}".encode() * size)
    (folder / "adapter_config.json").write_text(json.dumps({"r": 16}))
    (folder / "training_args.bin").write_bytes(b"pickle")
    if policy == "reference":
        write_json(paths.metrics(EXPERIMENT, policy, seed), {"dev": {"toxicity_mean": 0.5}})
    return folder


def leave_training(policy: str, seed: int = 0, size: int = 100) -> None:
    """Write what a training leaves: adapter, metrics and curves."""
    folder = leave_adapter(policy, seed, size)
    numbers = {"adapter_sha256": adapter_fingerprint(folder), "objective": {"kl": 2.5, "score": 0.75}, "pairs": 7}
    write_json(paths.metrics(EXPERIMENT, policy, seed), numbers)
    lines = ["step,objective/score,policy/loss"]
    lines += [f"{step},{round(row['objective/score'], 6)},{round(row['policy/loss'], 6)}" for step, row in CURVES]
    path = paths.curves(EXPERIMENT, seed, policy)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")


def leave_evaluation(policies: tuple[str, ...] = ("reference", "ppo"), seeds: tuple[int, ...] = (0,)) -> None:
    """Write completions, scores and the evaluation of policies: prompts have two samples each."""
    evaluation: dict[str, Any] = {"schema_version": 1}
    evaluation["meta"] = {"prompts": 3, "samples_per_prompt": 2, "seeds": list(seeds), "judges": {"minilm": "0" * 64}}
    evaluation["meta"] |= {"primary_judge": "minilm", "policies": list(policies)}
    for index, policy in enumerate(policies):
        evaluation[policy] = judged(0.25 + index) | {"seeds": {str(seed): judged(seed + index) for seed in seeds}}
        for seed in seeds:
            leave_completions(policy, seed)
    write_json(paths.metrics(EXPERIMENT, "evaluation"), evaluation)
    plot = paths.plot(EXPERIMENT, "evaluation")
    plot.parent.mkdir(parents=True, exist_ok=True)
    plot.write_text("judged,policy,judge,toxicity_mean\n")


def judged(value: float) -> dict[str, Any]:
    """Return the evaluation of one policy."""
    interval = {"value": value, "low": value - 0.1, "high": value + 0.1}
    judge = {"toxicity_mean": interval, "missing_rate": 0.0, "difference": {"toxicity_mean": interval}}
    guards = {"perplexity_median": 30.5, "kl": None}
    return {"judges": {"minilm": judge}, "guards": guards, "guards_passed": True}


def leave_completions(policy: str, seed: int) -> None:
    """Write three prompts with two completions each, and their scores; the last could not be scored."""
    keys = [(f"p{prompt}", sample) for prompt in range(3) for sample in range(2)]
    rows = [{"prompt_id": key, "sample": sample, "prompt": "a", "completion": "silly"} for key, sample in keys]
    write_jsonl(paths.completions(EXPERIMENT, seed, policy), rows)
    scores = [{"prompt_id": key, "sample": sample, "judge": "minilm", "toxicity": 0.5} for key, sample in keys]
    scores[-1]["toxicity"] = None
    write_jsonl(paths.scores(EXPERIMENT, seed, policy), scores)


def client() -> Any:
    """Return a client of the store that tracking uses."""
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=tracking_uri())


def runs(**tags: str) -> list[Any]:
    """Return the runs with all of these tags, newest first."""
    experiment = client().get_experiment_by_name(EXPERIMENT)
    if experiment is None:
        return []
    found = client().search_runs([experiment.experiment_id])
    return [run for run in found if all(run.data.tags.get(key) == value for key, value in tags.items())]


def contents(run: Any) -> dict[str, Any]:
    """Return all that two runs of the same result have in common."""
    store, run_id = client(), run.info.run_id
    folder = Path(run.info.artifact_uri.removeprefix("file://"))
    return {
        "name": run.info.run_name,
        "params": run.data.params,
        "history": {
            name: [(point.step, point.value) for point in store.get_metric_history(run_id, name)]
            for name in sorted(run.data.metrics)
        },
        "artifacts": {
            path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
        },
        "inputs": sorted((item.dataset.name, item.dataset.digest) for item in run.inputs.dataset_inputs),
        "fingerprints": {key: value for key, value in run.data.tags.items() if "fingerprint" in key},
    }


def surroundings(**changed: str) -> dict[str, str]:
    """Return an environment in which a process finds the repository's modules."""
    return {**os.environ, "PYTHONPATH": str(ROOT), **changed}


def python(code: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    """Run code in a process of its own, in the working directory."""
    return subprocess.run([sys.executable, "-c", code], env=surroundings(**environment), capture_output=True, text=True)
