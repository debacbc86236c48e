"""Where the numbers come from: commit, lock, library versions, and the hashes of every part."""

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from pipeline.apps import environment
from pipeline.apps.report.numbers import MISSING
from pipeline.io import paths, records
from pipeline.io.errors import UserError, shown
from pipeline.tracking.provenance import git_tags, lock_digest

# What can change a number and is not in env.json, which holds what can change a training.
MEASURING = ("numpy", "scipy", "scikit-learn", "alt-profanity-check", "altair", "vl-convert-python")


@dataclass(frozen=True)
class Provenance:
    """Titled groups of names and values."""

    groups: dict[str, dict[str, str]]


def read(experiment: str, evaluation: Mapping[str, Any]) -> Provenance:
    """Gather everything that is on disk; what is not says that it is missing."""
    return Provenance(
        {
            "Code": _code(),
            "Libraries": _libraries(),
            "Sources": dict(_sources(experiment)),
            "Judges (SHA-256)": _judges(evaluation["meta"]),
            "Adapters (SHA-256)": dict(_adapters(experiment, evaluation["meta"])),
            "Evaluation": _evaluation(evaluation["meta"]),
        }
    )


def _code() -> dict[str, str]:
    """Return the commit that was checked out: inside `dvc repro` that is before the results are committed."""
    tags = git_tags()
    state = {"true": "with uncommitted changes", "false": "nothing uncommitted but results"}
    return {
        "commit": tags.get("git.commit", MISSING),
        "state": state.get(tags.get("git.dirty", ""), MISSING),
        "dvc.lock (SHA-256)": lock_digest().get("dvc.lock", MISSING),
    }


def _judges(meta: Mapping[str, Any]) -> dict[str, str]:
    """Return the digests of the judges, that of refusals last."""
    digest = meta.get("refusal_sha256")
    refusals = {} if digest is None else {"refusals, not toxicity": str(digest)}
    return {name: str(digest) for name, digest in meta["judges"].items()} | refusals


def _libraries() -> dict[str, str]:
    trained = records.read_json(environment.FILE) if environment.FILE.exists() else {}
    measured = {name: found for name in MEASURING if (found := _installed(name))}
    python = ".".join(map(str, sys.version_info[:3]))
    return {"python": python, **{name: str(value) for name, value in sorted(trained.items())}, **measured}


def _installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _sources(experiment: str) -> Iterator[tuple[str, str]]:
    """Yield every fetched source and the digests of its files, from the manifests of the download."""
    folders = {
        "model": paths.base_model(experiment),
        "data": paths.raw(experiment),
        "scorer": paths.scorers(experiment),
        "reward scorer": paths.reward(experiment),
        "fluency": paths.fluency(experiment),
    }
    nothing = {"fluency": "nothing was fetched: perplexity is measured under the base model"}
    for kind, folder in folders.items():
        path = folder / "manifest.json"
        if not path.exists():
            yield kind, f"{MISSING}: {path} is not on disk"
            continue
        manifest = _manifest(path)
        if not manifest:
            yield kind, nothing.get(kind, "nothing was fetched: it is part of an installed package")
        for name, entry in sorted(manifest.items()):
            yield (kind if name in kind else f"{kind} {name}"), _described(entry)


def _manifest(path: Path) -> dict[str, Any]:
    manifest = records.read_json(path)
    for name, entry in manifest.items():
        known = isinstance(entry, dict) and ("uri" in entry or isinstance(entry.get("build"), dict))
        if not known or not isinstance(entry.get("sha256"), dict):
            raise UserError(f"{path}: {shown(name)}: expected `uri` and a mapping `sha256`; {records.REMAKE}")
    return manifest


def _described(entry: Mapping[str, Any]) -> str:
    """Return the address of a source, or what was built here, and a line a file; many are long: the page scrolls."""
    lines = [f"{digest}  {name}" for name, digest in entry["sha256"].items()]
    built = ", ".join(f"{key} {value}" for key, value in entry.get("build", {}).items())
    return "\n".join([str(entry["uri"]) if "uri" in entry else f"built here: {built}", *lines])


def _adapters(experiment: str, meta: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for method in (name for name in meta["policies"] if name != "reference"):
        for seed in meta["seeds"]:
            path = paths.metrics(experiment, method, seed)
            metrics = records.read_json(path) if path.exists() else {}
            yield f"{method}, seed {seed}", str(metrics.get("adapter_sha256", MISSING))


def _evaluation(meta: Mapping[str, Any]) -> dict[str, str]:
    decoding = ", ".join(f"{key} {value}" for key, value in meta["decoding"].items())
    shown = {
        "prompts": meta["prompts"],
        "completions a prompt and seed": meta["samples_per_prompt"],
        "seeds of the trainings": ", ".join(map(str, meta["seeds"])),
        "decoding": decoding,
        "threshold": meta["threshold"],
        "intervals": f"{meta['confidence']:.0%}, bootstrap, {meta['bootstrap']}, {meta['resamples']} resamples",
        "corrections": meta.get("corrections", MISSING),
        "KL": meta["kl_estimator"],
    }
    return {name: str(value) for name, value in shown.items()}
