"""A method, a scorer, a data set and a metric, each added by one new file and one word, go through the whole DAG."""

import re
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent

import pytest
import yaml

from tests.smoke import store
from tests.smoke.workspace import EXPERIMENT, Workspace, build, change, executed, sha256, with_word

pytestmark = pytest.mark.slow

METHOD = '''
    """Imitate the least toxic sample of every prompt."""

    from pipeline.config.declarations import Method
    from pipeline.config.sections import SupervisedSection
    from pipeline.methods.sft import METHOD as SFT


    def train(training, section):
        from pipeline.methods.sft.trainer import train_on
        from pipeline.policy.types import Completion, Prompt

        examples = []
        for row in training.samples():
            best = min(row.samples, key=lambda sample: 1.0 if sample.toxicity is None else sample.toxicity)
            prompt = Prompt(row.prompt_id, row.prompt, tuple(row.prompt_ids))
            examples.append(Completion.given(prompt, best.token_ids))
        return train_on(training, section, examples)


    METHOD = Method(
        name="imitate",
        title="Imitation of the least toxic sample",
        section=SupervisedSection,
        inputs="samples",
        train=train,
        curve="policy/loss",
        colour="#aa3377",
        shape="cross",
        memory=SFT.memory,
        tokens=SFT.tokens,
        sizes=("batch_size",),
    )
'''
SCORER = '''
    """Shouting: the share of capital letters."""

    from dataclasses import dataclass
    from typing import Literal

    from pipeline.config.declarations import ScorerKind
    from pipeline.config.fields import Section
    from pipeline.scorers.scoring import fingerprint


    class ShoutingScorer(Section):
        kind: Literal["shouting"]


    @dataclass(frozen=True)
    class Shouting:
        name: str
        fingerprint: str

        def score(self, texts):
            return [sum(map(str.isupper, text)) / max(1, len(text)) for text in texts]

        def cut(self, texts):
            return [False] * len(texts)


    def load(name, section, *_):
        return Shouting(name, fingerprint({"kind": section.kind}, {}))


    SCORER = ScorerKind("shouting", ShoutingScorer, load, bytes=lambda section: 0)
'''
DATASET = '''
    """Prompts in a text file, one a line."""

    from typing import Literal

    from pipeline.config.declarations import DataSet
    from pipeline.config.fields import Name, Section, Share, Source
    from pipeline.data.schema import fraction_rules, prompt_row


    class LinesData(Section):
        dataset: Literal["lines"]
        sources: dict[Name, Source]
        eval_fraction: Share
        dev_fraction: Share


    def read(raw, data):
        for line in (raw / "prompts" / "prompts.txt").read_text(encoding="utf-8").splitlines():
            yield prompt_row(line, categories=["line"]), None


    DATASET = DataSet("lines", LinesData, read, demonstrates=False, rules=fraction_rules)
'''
METRIC = '''
    """How often a completion asks."""

    from pipeline.config.declarations import Metric
    from pipeline.evaluation.measure import per_completion


    def _asks(row):
        return float("?" in row.completion)


    METRIC = Metric("question_rate", "completions that ask", per_completion(_asks))
'''
ADDED = {
    "methods": ("imitate", METHOD),
    "scorers": ("shouting", SCORER),
    "data": ("lines", DATASET),
    "evaluation/metrics": ("question_rate", METRIC),
}


@dataclass(frozen=True)
class Extended:
    """A working copy with one of each, run once."""

    workspace: Workspace
    executed: list[str]


@pytest.fixture(scope="module")
def extended(tmp_path_factory: pytest.TempPathFactory, python_folder: Path) -> Extended:
    workspace = build(tmp_path_factory.mktemp("extended") / "repository").started_by(python_folder)
    for room, (word, text) in ADDED.items():
        folder = workspace.root / "pipeline" / room
        (folder / f"{word}.py").write_text(dedent(text).lstrip())
        (folder / "__init__.py").write_text(with_word((folder / "__init__.py").read_text(), word))
    lines = workspace.root / "sources" / "prompts.txt"
    rows = (workspace.root / "sources" / "prompts.jsonl").read_text().splitlines()
    lines.write_text("".join(f"{yaml.safe_load(row)['prompt']}\n" for row in dict.fromkeys(rows)))
    experiment = f"experiments/{EXPERIMENT}.yaml"
    parameters = workspace.load(experiment)
    source = {"uri": "file:sources/prompts.txt", "sha256": sha256(lines)}
    parameters["data"] |= {"dataset": "lines", "sources": parameters["data"]["sources"] | {"prompts": source}}
    parameters["scorers"]["loud"] = {"kind": "shouting"}
    parameters["score"]["judges"] = [*parameters["score"]["judges"], "loud"]
    parameters["methods"] = {"imitate": parameters["methods"]["sft"], "dpo": parameters["methods"]["dpo"]}
    bound = {"change": "absolute", "min": None, "max": 0.9}
    change(parameters, {"evaluate": {"guards": parameters["evaluate"]["guards"] | {"question_rate": bound}}})
    workspace.edit(experiment, **parameters)
    workspace.python("pipeline.apps.dag")
    return Extended(workspace, executed(workspace.dvc("repro")))


def test_the_dag_is_written_with_the_new_method(extended: Extended) -> None:
    assert f"train_imitate@{EXPERIMENT}-0" in extended.executed
    assert not any("ppo" in name or "sft" in name for name in extended.executed)
    assert extended.workspace.repro() == []


def test_the_table_has_the_new_policy_and_the_new_metric(extended: Extended) -> None:
    table = extended.workspace.python("pipeline.apps.table", EXPERIMENT, "--markdown")
    assert re.search(r"^\| imitate \| 0\.\d", table, flags=re.MULTILINE)
    assert "question rate" in table and re.search(r"^\| imitate \| loud \|", table, flags=re.MULTILINE)
    assert "dpo - imitate" in table


def test_the_report_has_the_new_policy_judge_and_metric(extended: Extended) -> None:
    page = (extended.workspace.root / "reports" / EXPERIMENT / "index.html").read_text(encoding="utf-8")
    assert "#aa3377" in page
    for words in ("imitate", "loud", "completions that ask"):
        assert words in page


def test_mlflow_has_a_run_of_the_new_method_with_what_the_evaluation_says_of_it(extended: Extended) -> None:
    runs = store.by_name(store.runs(store.uri(extended.workspace.root), EXPERIMENT))
    run = runs["imitate"]
    assert run.params["methods.imitate.epochs"] == "2"
    assert {"toxicity_mean", "evaluation/guards/question_rate", "evaluation/loud/toxicity_mean"} <= run.history.keys()
