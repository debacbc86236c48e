"""The only place where an output path is spelled in Python.

Every path is relative to the repository root, which is the working directory of every stage, so that no
machine's path can enter an output. `dvc.yaml` is written with them.
"""

from pathlib import Path


def experiment_file(experiment: str) -> Path:
    """Return the parameter file of one experiment."""
    return Path("experiments") / f"{experiment}.yaml"


def roster_file() -> Path:
    """Return the file that names the experiments, seeds and policies."""
    return Path("params.yaml")


def raw(experiment: str) -> Path:
    """Return the folder of downloaded data; each source has a subfolder of its name."""
    return Path("data") / experiment / "raw"


def base_model(experiment: str) -> Path:
    """Return the folder of the untouched checkpoint (safetensors, config, tokenizer)."""
    return Path("models") / experiment / "base"


def scorers(experiment: str) -> Path:
    """Return the folder of downloaded scorer files; each scorer has a subfolder of its name."""
    return Path("models") / experiment / "scorers"


def reward(experiment: str) -> Path:
    """Return the folder of the reward scorer's downloaded files; it holds at least a manifest."""
    return Path("models") / experiment / "reward"


def fluency(experiment: str) -> Path:
    """Return the folder of the causal model that perplexity is measured under; it holds at least a manifest."""
    return Path("models") / experiment / "fluency"


def judge(experiment: str) -> Path:
    """Return the folder of the held-out judge: its card and, where it was fitted here, its head."""
    return Path("models") / experiment / "judge"


def formatted(experiment: str, split: str) -> Path:
    """Return the JSONL of one split: train, dev or eval."""
    return Path("data") / experiment / "formatted" / f"{split}.jsonl"


def preferences(experiment: str, seed: int) -> Path:
    """Return the JSONL of scored samples and the chosen/rejected pairs among them."""
    return Path("data") / experiment / "preferences" / f"{seed}.jsonl"


def adapter(experiment: str, seed: int, policy: str) -> Path:
    """Return the adapter folder of one policy: the reference, or a method."""
    return Path("adapters") / experiment / str(seed) / policy


def reference_curves(experiment: str, seed: int) -> Path:
    """Return the CSV of the curves of a reference that was trained; it lies in the reference's own folder."""
    return adapter(experiment, seed, "reference") / "curves.csv"


def completions(experiment: str, seed: int, policy: str) -> Path:
    """Return the JSONL of one policy's completions of the evaluation prompts."""
    return Path("completions") / experiment / str(seed) / f"{policy}.jsonl"


def probes(experiment: str, seed: int, policy: str) -> Path:
    """Return the JSONL of one policy's log-likelihoods of given texts."""
    return Path("probes") / experiment / str(seed) / f"{policy}.jsonl"


def scores(experiment: str, seed: int, policy: str) -> Path:
    """Return the JSONL of every judge's score of every completion of one policy."""
    return Path("scores") / experiment / str(seed) / f"{policy}.jsonl"


def metrics(experiment: str, name: str, seed: int | None = None) -> Path:
    """Return the metrics JSON of a stage; `seed` is None where the stage has no seed axis."""
    folder = Path("metrics") / experiment
    return (folder if seed is None else folder / str(seed)) / f"{name}.json"


def curves(experiment: str, seed: int, method: str) -> Path:
    """Return the CSV of one training's curves, with the column `step` first."""
    return Path("plots") / experiment / str(seed) / f"{method}.csv"


def plot(experiment: str, name: str) -> Path:
    """Return the CSV of one figure of the evaluation."""
    return Path("plots") / experiment / f"{name}.csv"


def report(experiment: str) -> Path:
    """Return the folder of the report: a projection of what is on disk, and no output of DVC."""
    return Path("reports") / experiment


def exported(experiment: str, seed: int, method: str) -> Path:
    """Return the folder of a policy as one merged checkpoint."""
    return Path("exports") / experiment / str(seed) / method


def checkpoints(experiment: str, seed: int, method: str) -> Path:
    """Return the scratch folder of one training; it lies outside every DVC output."""
    return Path("checkpoints") / experiment / str(seed) / method


def last_good_adapter(experiment: str, seed: int, method: str) -> Path:
    """Return the folder where a training that cannot go on leaves the last adapter that was sound."""
    return checkpoints(experiment, seed, method) / "last_good"


def private() -> tuple[Path, ...]:
    """Return the folders that only their owner may enter, since what lies there is trusted.

    DVC reads its state (core.site_cache_dir in .dvc/config) as pickles, and checkpoints are continued.
    """
    return Path(".dvc-state"), Path("checkpoints"), Path(".locks")
