"""The real DialogSum files and the genuine FLAN-T5 tokenizer, where they lie beside the repository."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from pipeline.apps.stage import Stage
from pipeline.config.loader import load
from pipeline.config.sections import ExperimentFile
from pipeline.data.schema import PromptRow, read_prompts
from pipeline.io import paths
from pipeline.io.records import read_json
from pipeline.tracking.recording import NullRun
from stages import format as format_stage

ROOT = Path(__file__).resolve().parents[2]
REAL = ROOT.parent / "shared" / "data"
EXPERIMENT = ROOT / "experiments" / "flan-t5-dialogsum.yaml"
SPLITS = ("train", "dev", "eval")
FILES = {"dev.jsonl": "dialogsum.dev.jsonl", "test.jsonl": "dialogsum.test.jsonl", "train600.csv": "train.csv"}

pytestmark = pytest.mark.skipif(
    not all((REAL / "dialogsum" / f"dialogsum.{name}").is_file() for name in FILES),
    reason="the DialogSum files are not in ../shared/data",
)


@pytest.fixture
def formatted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, list[PromptRow]]]:
    """Return the format stage over the real files, with the experiment's own section `data` but for the changes."""
    monkeypatch.chdir(tmp_path)
    raw = paths.raw("real") / "dialogsum"
    raw.mkdir(parents=True)
    for name, place in FILES.items():
        shutil.copyfile(REAL / "dialogsum" / f"dialogsum.{name}", raw / place)

    def run(**changes: object) -> dict[str, list[PromptRow]]:
        file = yaml.safe_load(EXPERIMENT.read_text(encoding="utf-8"))
        file["data"] |= changes
        paths.experiment_file("real").parent.mkdir(exist_ok=True)
        paths.experiment_file("real").write_text(yaml.safe_dump(file), encoding="utf-8")
        format_stage.main(
            Stage(name="format", experiment="real", settings=load("real", format_stage.NODE.sections), run=NullRun())
        )
        return {name: read_prompts(paths.formatted("real", name)) for name in SPLITS}

    return run


def test_all_500_and_500_rows_are_read_and_a_test_row_has_three_references(
    formatted: Callable[..., dict[str, list[PromptRow]]],
) -> None:
    everything = {"train": None, "dev": None, "eval": None}
    rows = formatted(min_characters=1, max_characters=100_000, most=everything)
    counts = read_json(paths.metrics("real", "format"))
    assert counts["rows_read"] == 601 + 500 + 500 and counts["left_out"] == {}
    # A few dialogues stand twice, in different spaces or capitals; their references are put together.
    assert len(rows["eval"]) >= 490 and 480 <= len(rows["dev"]) <= 500
    assert sum(len(row.demonstrations) for row in rows["eval"]) >= 3 * 490
    assert {len(row.demonstrations) for row in rows["eval"]} <= {3, 4, 5, 6}
    removed = counts["duplicates_removed"] + counts["in_two_splits_removed"]
    assert sum(map(len, rows.values())) == 1601 - removed and removed < 50


def test_the_experiment_keeps_dialogues_of_its_lengths_and_its_numbers(
    formatted: Callable[..., dict[str, list[PromptRow]]],
) -> None:
    rows = formatted()
    data = load("real", ("data",)).data
    before, after = data.instruction.split("{dialogue}")
    for members in rows.values():
        for row in members:
            assert row.prompt.startswith(before) and row.prompt.endswith(after)
            assert 200 <= len(row.prompt) - len(before) - len(after) <= 1000
    left_out = read_json(paths.metrics("real", "format"))["left_out"]
    assert (left_out["dev_longer"], left_out["eval_longer"], left_out["train_longer"]) == (96, 116, 103)
    assert len(rows["dev"]) == data.most.dev == 100 and left_out["dev_beyond_most"] > 250
    assert 375 <= len(rows["eval"]) <= 384


@pytest.mark.skipif(
    not (REAL / "flan-t5-tokenizer" / "tokenizer.json").is_file(),
    reason="the FLAN-T5 tokenizer is not in ../shared/data",
)
def test_prompts_and_summaries_fit_the_lengths_of_the_experiment(
    formatted: Callable[..., dict[str, list[PromptRow]]],
) -> None:
    from transformers import AutoTokenizer

    rows = formatted(most={"train": None, "dev": None, "eval": None})
    tokenizer = AutoTokenizer.from_pretrained(REAL / "flan-t5-tokenizer", local_files_only=True)
    settings = load("real", tuple(ExperimentFile.model_fields))
    for members in rows.values():
        prompts = tokenizer([row.prompt for row in members]).input_ids
        summaries = tokenizer([text for row in members for text in row.demonstrations]).input_ids
        assert 100 < max(map(len, prompts)) <= settings.model.max_prompt_tokens
        longest = max(map(len, summaries))
        assert 40 < longest <= settings.complete.max_new_tokens == settings.methods["ppo"].max_new_tokens
        assert longest <= settings.reference.max_demonstration_tokens
        assert {ids[-1] for ids in (*prompts, *summaries)} == {tokenizer.eos_token_id}
        assert not any(tokenizer.unk_token_id in ids[:8] for ids in prompts), "it knows the instruction"
