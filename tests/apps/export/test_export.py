"""An exported folder is the policy: loaded by Transformers alone it gives the same logits; or there is no folder."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors import safe_open

from pipeline.apps.export import export, main
from pipeline.io import paths
from pipeline.io.errors import UserError
from tests.policy.tiny_llama import LLAMA
from tests.policy.tiny_model import NAME, SEED, TinyModel

Train = Callable[..., Any]


def loaded(folder: Path) -> Any:
    """Load a folder with Transformers alone, by the class that its config names."""
    (name,) = json.loads((folder / "config.json").read_text())["architectures"]
    return getattr(transformers, name).from_pretrained(folder, local_files_only=True).eval()


def logits(model: Any) -> Any:
    ids = torch.tensor([[5, 9, 14, 3, 21]])
    with torch.no_grad():
        return model(input_ids=ids, labels=ids).logits


def test_it_is_the_policy_without_peft(train: Train) -> None:
    policy = train()
    folder, check = export(NAME, "sft", SEED)
    assert folder == paths.exported(NAME, SEED, "sft")
    torch.testing.assert_close(logits(loaded(folder)), logits(policy.model.eval()), atol=1e-4, rtol=0)
    assert check.difference <= check.allowed < check.effect / 10
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
    assert tokenizer("the old man")["input_ids"] == policy.tokenizer("the old man")["input_ids"]


def test_a_policy_on_a_task_reference_is_exported_without_it(train: Train) -> None:
    policy = train(task_reference=True)
    folder, _ = export(NAME, "sft", SEED)
    torch.testing.assert_close(logits(loaded(folder)), logits(policy.model.eval()), atol=1e-4, rtol=0)


def test_the_reference_is_the_base_where_nothing_was_trained(train: Train) -> None:
    policy = train()
    folder, check = export(NAME, "reference", SEED)
    with policy.acting_as("base"):
        assert torch.equal(logits(loaded(folder)), logits(policy.model))
    assert (check.difference, check.effect) == (0.0, 0.0)


def test_a_bfloat16_policy_keeps_its_update_in_float32(train: Train) -> None:
    train(dtype="bfloat16")
    folder, check = export(NAME, "sft", SEED)
    with safe_open(folder / "model.safetensors", "pt") as weights:
        assert {weights.get_tensor(name).dtype for name in weights.keys()} == {torch.float32}
    assert check.difference <= check.allowed


def test_the_folder_is_whole_and_the_same_at_every_call(train: Train, tmp_path: Path) -> None:
    train()
    first, second = (export(NAME, "sft", SEED, tmp_path / name)[0] for name in ("first", "second"))
    files = {path.name: path.read_bytes() for path in first.iterdir()}
    assert {"config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "README.md"} <= set(files)
    assert {path.name: path.read_bytes() for path in second.iterdir()} == files
    for name, content in files.items():
        assert str(tmp_path).encode() not in content, name
    assert not [path for path in tmp_path.rglob("*") if path.suffix in (".bin", ".pt", ".pkl", ".tmp")]
    export(NAME, "sft", SEED, first)  # an earlier export is replaced
    assert {path.name: path.read_bytes() for path in first.iterdir()} == files


class TestRefusals:
    @pytest.fixture
    def tiny(self) -> TinyModel:
        return LLAMA

    @pytest.fixture(autouse=True)
    def trained(self, train: Train) -> None:
        train()

    def test_a_merge_that_is_not_the_policy_leaves_no_folder(self, monkeypatch: pytest.MonkeyPatch) -> None:
        import peft

        # What a merge that does nothing would look like: the base comes out.
        monkeypatch.setattr(peft.PeftModel, "merge_and_unload", lambda model: model.unload(), raising=False)
        with pytest.raises(UserError, match="merged, a logit differs by .* load the adapter with PEFT"):
            export(NAME, "sft", SEED)
        assert not list(Path("exports").rglob("*.safetensors"))

    def test_nothing_but_an_export_is_replaced(self) -> None:
        mine = Path("mine")
        mine.mkdir()
        (mine / "thesis.txt").write_text("years")
        with pytest.raises(UserError, match="mine: expected a new or empty folder"):
            export(NAME, "sft", SEED, mine)
        assert (mine / "thesis.txt").read_text() == "years"

    def test_an_adapter_of_another_training(self) -> None:
        path = paths.adapter(NAME, SEED, "sft") / "adapter_config.json"
        path.write_text(path.read_text() + " ")
        with pytest.raises(UserError, match="not the adapter of .*dvc checkout"):
            export(NAME, "sft", SEED)

    @pytest.mark.parametrize(
        ("arguments", "expected"),
        [
            ([NAME, "ppo"], f"dvc repro train_ppo@{NAME}-0"),
            ([NAME, "sft", "--seed", "5"], f"dvc repro train_sft@{NAME}-5"),
            (["nothing", "sft"], "experiments/nothing.yaml: not found"),
        ],
    )
    def test_what_is_not_there_is_one_message(
        self, arguments: list[str], expected: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with pytest.raises(SystemExit) as stopped:
            main(arguments)
        assert stopped.value.code == 2
        assert expected in capsys.readouterr().err

    @pytest.mark.parametrize(
        ("arguments", "named"),
        [([NAME, "sfd"], "'sfd'"), ([NAME], "method"), ([NAME, "sft", "--seed", "one"], "--seed"), ([], "experiment")],
    )
    def test_wrong_arguments_are_one_line(
        self, arguments: list[str], named: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with pytest.raises(SystemExit) as stopped:
            main(arguments)
        assert stopped.value.code == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("export: ") and named in line
        assert "; correct the command (usage: python -m pipeline.apps.export" in line

    def test_what_was_written_and_checked_is_printed(self, capsys: pytest.CaptureFixture[str]) -> None:
        main([NAME, "sft"])
        shown = capsys.readouterr().out
        assert "exports/exp/0/sft/model.safetensors" in shown
        assert "checked: loaded again, its logits differ from the policy's by at most" in shown
