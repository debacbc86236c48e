"""Broken results: what shows, reports, compares or exports them names what is broken, and writes nothing."""

import subprocess
from pathlib import Path

import pytest

from tests.faults.conftest import refused
from tests.faults.damage import NAN, Damage, content, cut, encoded, gone, key, no_key

CARDS, EVALUATION, PROMPTS = "metrics/smoke/judge.json", "metrics/smoke/evaluation.json", "plots/smoke/prompts.csv"
DIGEST = "0" * 64
Case = tuple[str, Damage, tuple[str, ...]]  # id, what is done to the file, what the message names

# Whatever reads the evaluation says the same of it.
BAD_EVALUATIONS: list[Case] = [
    ("absent", gone, ("not found",)),
    ("empty", content(b""), ("JSON",)),
    ("cut", cut, ("JSON",)),
    ("list", content(b"[]"), ("list",)),
    ("utf-16", encoded("utf-16"), ("UTF-8",)),
    ("deeply-nested", content(b"[" * 100_000), ("JSON",)),
    ("other-schema", key("schema_version", to=99), ("schema_version", "99")),
    ("no-schema", no_key("schema_version"), ("schema_version",)),
    ("no-meta", no_key("meta"), ("meta",)),
    ("meta-list", key("meta", to=[]), ("meta",)),
    ("no-primary-judge", no_key("meta", "primary_judge"), ("meta.primary_judge",)),
    ("primary-judge-unknown", key("meta", "primary_judge", to="nobody"), ("meta.primary_judge", "nobody")),
    ("judges-list", key("meta", "judges", to=["consonants"]), ("meta.judges",)),
    ("policies-text", key("meta", "policies", to="sft"), ("meta.policies",)),
    ("seeds-text", key("meta", "seeds", to=["zero"]), ("meta.seeds",)),
    ("no-seeds", key("meta", "seeds", to=[]), ("meta.seeds",)),
    ("threshold-nan", key("meta", "threshold", to=NAN), ("meta.threshold",)),
    ("confidence-above-1", key("meta", "confidence", to=95), ("meta.confidence",)),
    ("guard-of-no-form", key("meta", "guards", "distinct_2", to=0.1), ("meta.guards.distinct_2",)),
    ("no-policy", no_key("sft"), ("sft",)),
    ("policy-list", key("sft", to=[]), ("sft",)),
    ("no-judge", no_key("sft", "judges", "consonants"), ("sft.judges.consonants",)),
    ("no-mean", no_key("sft", "judges", "consonants", "toxicity_mean"), ("sft.judges.consonants.toxicity_mean",)),
    (
        "mean-text",
        key("sft", "judges", "consonants", "toxicity_mean", "value", to="low"),
        ("sft.judges.consonants.toxicity_mean.value",),
    ),
    (
        "mean-nan",
        key("sft", "judges", "consonants", "toxicity_mean", "low", to=NAN),
        ("sft.judges.consonants.toxicity_mean.low",),
    ),
    ("guard-text", key("sft", "guards", "distinct_2", to="high"), ("sft.guards.distinct_2",)),
    ("check-without-change", no_key("sft", "guard_checks", "distinct_2", "change"), ("sft.guard_checks.distinct_2",)),
    ("verdict-text", key("sft", "verdict", to="win"), ("sft.verdict",)),
    ("p-above-1", key("comparisons", "sft", "reference", "p_holm", to=3), ("comparisons.sft.reference.p_holm",)),
    ("comparison-list", key("comparisons", "sft", to=[]), ("comparisons.sft",)),
    ("baseline-text", key("baselines", "best_of_k", to="good"), ("baselines.best_of_k",)),
    ("champion-text", key("champion", to="sft"), ("champion",)),
]


def cases(found: list[Case]) -> list[object]:
    return [pytest.param(damage, named, id=name) for name, damage, named in found]


def broken(path: str, damage: Damage) -> str:
    damage(Path(path))
    return path


@pytest.mark.parametrize("command", ["table", "report"])
@pytest.mark.parametrize("damage, named", cases(BAD_EVALUATIONS))
def test_broken_evaluations_are_neither_shown_nor_reported(workplace, command, damage, named):
    module = {"table": "pipeline.apps.table", "report": "pipeline.apps.report"}[command]
    refused(module, "smoke", names=(broken(EVALUATION, damage), *named))
    assert not Path("reports").exists()


BAD_BESIDE: list[Case] = [  # what a report reads beside the evaluation
    ("card-broken", content(b"{"), (CARDS, "JSON")),
    ("card-of-no-form", key("cards", "vowels", "identity", to={"value": "all"}), (CARDS, "cards.vowels.identity")),
    ("curve-not-utf-8", content(b"step,policy/loss\n1,\xff\n"), ("plots/smoke/0/sft.csv", "UTF-8")),
    ("curve-without-steps", content(b"policy/loss\n1\n"), ("plots/smoke/0/sft.csv", "'step'")),
    ("curve-empty", content(b""), ("plots/smoke/0/sft.csv", "'step'")),
    ("curve-short-row", content(b"step,policy/loss\n1\n"), ("plots/smoke/0/sft.csv:2", "2 fields")),
    ("curve-long-row", content(b"step,policy/loss\n1,2,3\n"), ("plots/smoke/0/sft.csv:2", "2 fields")),
    ("curve-column-twice", content(b"step,step\n1,2\n"), ("plots/smoke/0/sft.csv", "twice")),
    ("curve-open-quote", content(b'step,policy/loss\n1,"2\n'), ("plots/smoke/0/sft.csv", "CSV")),
    ("curve-words", content(b"step,policy/loss\n1,low\n"), ("plots/smoke/0/sft.csv:2", "policy/loss", "low")),
    ("curve-nan", content(b"step,policy/loss\n1,nan\n"), ("plots/smoke/0/sft.csv:2", "policy/loss", "nan")),
    ("curve-gigantic-field", content(b"step,policy/loss\n1," + b"9" * 200_000), ("plots/smoke/0/sft.csv",)),
    ("metrics-broken", content(b"[]"), ("metrics/smoke/0/sft.json", "list")),
    ("metrics-text", key("dev", "kl", to="far"), ("metrics/smoke/0/sft.json", "dev.kl")),
    ("metrics-section", key("dev", to=3), ("metrics/smoke/0/sft.json", "dev")),
    ("manifest-broken", cut, ("data/smoke/raw/manifest.json", "JSON")),
    ("manifest-of-no-form", key("prompts", to=["file"]), ("data/smoke/raw/manifest.json", "prompts")),
    ("environment-broken", content(b"{"), ("env.json", "JSON")),
]


def beside(named: tuple[str, ...]) -> Path:
    return Path(named[0].partition(":")[0])


@pytest.mark.parametrize("damage, named", cases(BAD_BESIDE))
def test_what_a_report_cannot_read_it_names_and_writes_none(workplace, damage, named):
    damage(beside(named))
    refused("pipeline.apps.report", "smoke", names=named)
    assert not Path("reports").exists()


AT_THE_END = [case for case in BAD_BESIDE if case[0] in ("curve-nan", "metrics-text")]


@pytest.mark.parametrize("damage, named", cases(AT_THE_END))
def test_an_evaluation_whose_report_fails_leaves_the_one_before(workplace, damage, named):
    """By then its numbers and plots are computed, and other than those on disk."""
    rewritten = Path("experiments/smoke.yaml")
    rewritten.write_text(rewritten.read_text().replace("resamples: 200", "resamples: 300"))
    damage(beside(named))
    refused("evaluate", "smoke", names=named)
    assert not Path("reports").exists()


OF_DIFF = [case for case in BAD_EVALUATIONS if case[0] not in ("absent", "other-schema", "no-schema")]
BAD_PROMPTS: list[Case] = [
    ("prompts-empty", content(b""), (PROMPTS, "'policy'")),
    ("prompts-without-a-column", content(b"prompt_id,seed,policy,judge\n"), (PROMPTS, "'toxicity_mean'")),
    ("prompts-short-row", content(b"prompt_id,seed,policy,judge,toxicity_mean\na,0\n"), (f"{PROMPTS}:2",)),
    ("prompts-words", content(b"prompt_id,seed,policy,judge,toxicity_mean\na,0,sft,b,low\n"), (f"{PROMPTS}:2", "low")),
    ("prompts-nan", content(b"prompt_id,seed,policy,judge,toxicity_mean\na,0,sft,b,nan\n"), (f"{PROMPTS}:2", "nan")),
    ("prompts-utf-16", encoded("utf-16"), (PROMPTS, "UTF-8")),
    ("roster-broken", content(b"experiments: ["), ("params.yaml", "YAML")),
    ("roster-list", content(b"- smoke"), ("params.yaml", "mapping")),
    ("roster-of-no-form", content(b"experiments: smoke"), ("params.yaml", "experiments")),
    ("parameters-broken", content(b"model: {"), ("experiments/smoke.yaml", "YAML")),
]


@pytest.fixture
def committed(workplace):
    """Commit what a comparison reads, as it was before it is damaged."""
    git = ("git", "-c", "user.name=test", "-c", "user.email=test@localhost")
    subprocess.run([*git, "init", "--quiet"], check=True)
    subprocess.run([*git, "add", "metrics", "plots", "params.yaml", "experiments"], check=True)
    subprocess.run([*git, "commit", "--quiet", "--message", "sound"], check=True)


@pytest.mark.parametrize(
    "damage, named", cases([(name, damage, (EVALUATION, *named)) for name, damage, named in OF_DIFF] + BAD_PROMPTS)
)
def test_broken_results_are_not_compared(committed, damage, named):
    damage(beside(named))
    refused("pipeline.apps.diff", "HEAD", names=named)


@pytest.mark.parametrize("damage, named", cases([
    ("evaluation-broken", cut, (EVALUATION, "JSON")),
    ("evaluation-of-no-form", key("sft", "guards", to=[]), (EVALUATION, "sft.guards")),
    ("cards-of-no-form", key("cards", to=[]), (CARDS, "cards")),
    ("metrics-broken", cut, ("metrics/smoke/0/sft.json", "JSON")),
    ("metrics-of-another-adapter", key("adapter_sha256", to=DIGEST), ("metrics/smoke/0/sft.json",)),
]))  # fmt: skip
def test_a_policy_is_not_exported_with_a_card_of_broken_results(workplace, damage, named):
    damage(beside(named))
    refused("pipeline.apps.export", "smoke", "sft", names=named)
    assert not [path for path in Path("exports").rglob("*") if path.is_file()]
