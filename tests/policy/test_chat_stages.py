"""The real stages of a chat experiment, one after the other: every one of them makes the same ids of a prompt."""

import json
import shutil

import pytest
from transformers import AutoTokenizer

from pipeline.apps.export import export
from pipeline.data.schema import prompt_row
from pipeline.io import paths
from pipeline.policy.language_model import LanguageModelPolicy
from pipeline.policy.prompts import prompt_ids
from pipeline.preferences.pairs import pairs_of, read_samples
from tests.faults.conftest import run
from tests.policy.chatting import EXPERIMENT, write_base, write_parameters, write_split
from tests.policy.tiny_model import ROOT

WHO = ("the old baker", "my neighbor", "a silly goose", "that darn cat", "the captain", "our teacher")
SPLITS = {
    split: [prompt_row(f"{verb} {who}?") for who in WHO for verb in verbs]
    for split, verbs in {"train": ("Where is", "Who was"), "dev": ("When comes",), "eval": ("How tall is",)}.items()
}
PREFERENCES = {"kind": "on_policy", "samples_per_prompt": 6, "max_new_tokens": 12, "margin": 0.5, "batch_size": 72}
STAGES = {  # and the splits whose prompts it completes
    "reference": {"dev"},
    "preferences": {"train"},
    "train_sft": {"dev"},
    "train_ppo": {"train", "dev"},
    "train_dpo": {"dev"},
    "complete": {"eval"},
}


@pytest.fixture(scope="module")
def seen(tmp_path_factory):
    """Run the stages and yield what each of them completed: prompts with their ids, and completions."""
    root, found = tmp_path_factory.mktemp("chat"), {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        patch.setenv("TRACKING", "off")
        patch.setenv("DEVICE", "cpu")
        shutil.copyfile(ROOT / "dvc.yaml", "dvc.yaml")  # an export's card shows the parameters that it declares
        write_base()
        write_parameters(preferences=PREFERENCES, ppo={"prompts_per_step": 8, "max_new_tokens": 12})
        for split, rows in SPLITS.items():
            write_split(split, rows)
        complete = LanguageModelPolicy.complete

        def watched(policy, prompts, *arguments, **more):
            completions = complete(policy, prompts, *arguments, **more)
            found.setdefault(stage, []).extend(completions)
            return completions

        patch.setattr(LanguageModelPolicy, "complete", watched)
        for stage in STAGES:
            outcome = run(stage, EXPERIMENT, "0", *(["ppo"] if stage == "complete" else []))
            if outcome.traceback:
                raise outcome.traceback
            assert outcome.code == 0, outcome.stderr
        yield found


def expected():
    """Return the ids of every prompt as the library makes them of the base's own template, by split."""
    tokenizer = AutoTokenizer.from_pretrained(paths.base_model(EXPERIMENT))
    return {
        split: {
            row.id: tuple(
                tokenizer.apply_chat_template(
                    [{"role": "user", "content": row.prompt}], add_generation_prompt=True, return_dict=True
                )["input_ids"]
            )
            for row in rows
        }
        for split, rows in SPLITS.items()
    }


def test_every_stage_reads_the_same_ids_of_a_prompt(seen):
    ids = expected()
    for stage, splits in STAGES.items():
        wanted = {name: tokens for split in splits for name, tokens in ids[split].items()}
        found = {item.prompt.id: item.prompt.token_ids for item in seen[stage]}
        # PPO draws batches of 8 of the train prompts, and of a round leaves over what fills none.
        assert found == {name: wanted[name] for name in found} and len(found) > 0.7 * len(wanted), stage
    for pair in pairs_of(read_samples(paths.preferences(EXPERIMENT, 0))):  # what SFT and DPO train on
        assert tuple(pair.prompt_ids) == ids["train"][pair.prompt_id]


def test_a_reply_ends_with_the_token_that_ends_its_turn(seen):
    end = AutoTokenizer.from_pretrained(paths.base_model(EXPERIMENT)).eos_token_id
    completions = [item for items in seen.values() for item in items]
    ended = [item for item in completions if item.finished]
    assert ended and len(ended) < len(completions)
    for item in completions:
        assert item.token_ids.count(end) == item.finished and (item.token_ids[-1] == end) == item.finished
        assert item.prompt.token_ids.count(end) == 1, "the user's turn ends with it too"


def test_completions_are_of_the_message_and_not_of_the_template(seen):
    rows = [json.loads(line) for line in paths.completions(EXPERIMENT, 0, "ppo").read_text().splitlines()]
    assert {row["prompt_id"] for row in rows} == {row.id for row in SPLITS["eval"]}
    assert {item.prompt.text for item in seen["complete"]} == {row.prompt for row in SPLITS["eval"]}


def test_an_export_carries_the_template_and_its_card_says_how_to_use_it(seen):
    folder, _ = export(EXPERIMENT, "ppo", 0)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    row = SPLITS["eval"][0]
    assert prompt_ids(row.prompt, tokenizer, "chat_template") == expected()["eval"][row.id]
    assert "apply_chat_template" in (folder / "README.md").read_text(encoding="utf-8")
