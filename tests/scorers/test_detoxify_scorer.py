"""Detoxify's own library on a checkpoint of its own layout: nothing is fetched, and nothing in a pickle runs."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from pipeline.io.errors import UserError
from pipeline.scorers import detoxify as ours
from pipeline.scorers.detoxify import DetoxifyScorer
from pipeline.scorers.scoring import HOSTILE, KIND
from tests.scorers import tiny_classifiers as tiny
from tests.scorers.tiny import ROOT

TEXTS = [*HOSTILE, *KIND, "", "word", "that was stupid, but thank you"]
VARIANTS = {"unbiased": tiny.HEADS, "original": ("toxicity", "severe_toxicity", "identity_attack")}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Return the folders of the variants, and the models that were written there."""
    root = tmp_path_factory.mktemp("detoxify")
    return {variant: (root / variant, tiny.write_detoxify(root / variant, variant)) for variant in VARIANTS}


@pytest.fixture
def copy(made, tmp_path):
    return shutil.copytree(made["unbiased"][0], tmp_path / "copy")


def loaded(folder, **changes):
    return ours.load("unbiased", tiny.detoxify(folder, **changes), folder)


def checkpoint_of(folder):
    return next((folder / "checkpoint").iterdir())


def changed(folder, change):
    """Let `change` alter what the checkpoint holds."""
    path = checkpoint_of(folder)
    held = torch.load(path, weights_only=True)
    change(held)
    torch.save(held, path)


@pytest.mark.parametrize("variant, head", [(variant, head) for variant, heads in VARIANTS.items() for head in heads])
def test_toxicity_is_the_heads_sigmoid(made, variant, head):
    folder, model = made[variant]
    scorer = loaded(folder, variant=variant, head=head)
    names = tiny.JIGSAW if variant == "original" else tiny.HEADS
    renamed = {"toxicity": "toxic", "severe_toxicity": "severe_toxic", "identity_attack": "identity_hate"}
    index = names.index(renamed[head] if variant == "original" else head)
    with torch.inference_mode():
        tokens = [scorer.library.tokenizer(text, return_tensors="pt") for text in TEXTS]
        expected = [torch.sigmoid(model(**one).logits[0, index]).item() for one in tokens]
    assert scorer.score(TEXTS) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("kind", ["logit", "log_odds"])
def test_the_heads_logit_is_what_the_librarys_sigmoid_is_of(made, variant, kind):
    scorer = loaded(made[variant][0], variant=variant, head="severe_toxicity", max_tokens=16)
    texts = [*TEXTS * 20, "thank you " * 100 + HOSTILE[0]]
    logits = scorer.output(kind, texts)
    assert scorer.score(texts) == pytest.approx(torch.sigmoid(torch.tensor(logits)).tolist(), abs=1e-6)
    assert scorer.output(kind, texts[:1]) == pytest.approx(logits[:1], abs=1e-5) and scorer.output(kind, []) == []


def test_a_logit_tells_apart_what_a_probability_rounds_to_1(copy):
    def sharper(held):
        for part in ("weight", "bias"):
            held["state_dict"][f"classifier.out_proj.{part}"].mul_(50)

    changed(copy, sharper)
    scorer, texts = loaded(copy), [HOSTILE[0], HOSTILE[1]]
    logits = scorer.output("log_odds", texts)
    assert scorer.score(texts) == [1.0, 1.0]
    assert min(logits) > 50 and logits[0] != logits[1]


def test_a_text_without_a_logit_is_missing(made):
    scorer = loaded(made["unbiased"][0])
    embedding = scorer.library.model.get_input_embeddings().weight
    rows = [scorer.library.tokenizer(text)["input_ids"] for text in TEXTS]
    token = min(set(rows[TEXTS.index("word")]) - set(rows[TEXTS.index("")]))
    with torch.no_grad():
        embedding[token] = torch.nan
    assert [value is None for value in scorer.output("logit", TEXTS)] == [token in row for row in rows]


def test_one_text_and_many_get_the_same_scores(made):
    scorer, many = loaded(made["unbiased"][0]), TEXTS * 20
    alone = [scorer.score([text])[0] for text in TEXTS]
    assert scorer.score(many) == pytest.approx(alone * 20, abs=1e-6) and scorer.score([]) == []
    assert alone[0] > 0.9 > 0.1 > alone[3]


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_long_text_is_cut_and_counted_and_does_not_crash(made, variant):
    scorer = loaded(made[variant][0], variant=variant, max_tokens=16)
    texts = ["thank you, we are happy", "thank you " * 100 + HOSTILE[0], "thank you " * 100 + KIND[0]]
    assert scorer.cut(texts) == [False, True, True]
    found = scorer.score(texts)
    assert found[1] == found[2] is not None
    assert loaded(made[variant][0], variant=variant, max_tokens=tiny.POSITIONS).score(texts)[1] is not None
    with pytest.raises(UserError, match=f"max_tokens: expected 3 to {tiny.POSITIONS}, "):
        loaded(made[variant][0], variant=variant, max_tokens=tiny.POSITIONS + 1)


def test_a_text_without_a_number_is_missing_and_takes_no_other_with_it(made):
    scorer = loaded(made["unbiased"][0])
    predict = scorer.library.predict

    def failing(texts):
        if any("stupid" in text for text in texts):
            raise RuntimeError("about a text")
        return predict(texts)

    scorer.library.predict = failing
    assert [value is None for value in scorer.score(TEXTS)] == ["stupid" in text for text in TEXTS]


def test_an_unknown_head_is_answered_with_the_heads(made):
    with pytest.raises(UserError, match=r"no head 'toxic', its heads are toxicity, severe_toxicity, .*`head`"):
        loaded(made["unbiased"][0], head="toxic")


@pytest.mark.parametrize("variant", ["original", "multilingual"])
def test_another_variant_is_not_taken_for_the_named_one(made, variant):
    with pytest.raises(UserError, match=f"expected .* which '{variant}' is, got .*Roberta"):
        loaded(made["unbiased"][0], variant=variant)


def test_the_library_asks_no_network_for_anything(made, tmp_path):
    folder = made["unbiased"][0]
    (tmp_path / "config.json").write_text(json.dumps(tiny.detoxify(folder).model_dump()))
    program = (
        "import json, socket, sys; from pathlib import Path\n"
        "def refuse(*_): print('ASKED', file=sys.stderr); raise OSError('no network here')\n"
        "socket.socket.connect = socket.getaddrinfo = refuse\n"
        "from pipeline.scorers.detoxify import DetoxifyScorer; from pipeline.scorers.loading import load_scorer\n"
        "config = DetoxifyScorer.model_validate_json(Path(sys.argv[1]).read_text())\n"
        "scorer = load_scorer('unbiased', config, Path(sys.argv[2]), 'exp')\n"
        "print(scorer.score(['word'])[0], scorer.fingerprint)\n"
    )
    online = {name: value for name, value in os.environ.items() if "OFFLINE" not in name}
    online |= {"HF_HOME": str(tmp_path / "cache"), "OMP_NUM_THREADS": "1"}
    arguments = [sys.executable, "-c", program, str(tmp_path / "config.json"), str(folder)]
    done = subprocess.run(arguments, cwd=ROOT, env=online, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "ASKED" not in done.stderr, done.stderr
    score, fingerprint = done.stdout.split()
    here = loaded(folder)
    assert float(score) == pytest.approx(here.score(["word"])[0], abs=1e-6) and fingerprint == here.fingerprint


class Trap:
    """Makes a folder where its pickle is read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.mkdir, (self.path,)


def test_the_checkpoint_is_read_only_as_pinned(copy, tmp_path):
    config, path = tiny.detoxify(copy), checkpoint_of(copy)
    torch.save(Trap(tmp_path / "sprung"), path)
    with pytest.raises(UserError, match=r"toxic_unbiased\.ckpt: expected sha256 .* \(pinned\), got"):
        ours.load("unbiased", config, copy)
    empty = config.checkpoint.model_copy(update={"sha256": {}})
    with pytest.raises(UserError, match="not pinned: a pickle is read only where its own sha256"):
        ours.load("unbiased", config.model_copy(update={"checkpoint": empty}), copy)
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("place", ["whole", "config", "state_dict"])
def test_not_even_a_pinned_checkpoint_can_run_anything(copy, tmp_path, place):
    path, trap = checkpoint_of(copy), Trap(tmp_path / "sprung")
    held = torch.load(path, weights_only=True)
    torch.save(trap if place == "whole" else held | {place: {**held[place], "more": trap}}, path)
    with pytest.raises(UserError, match="cannot be read"):
        loaded(copy)
    assert not (tmp_path / "sprung").exists()


def test_one_file_may_be_pinned_by_one_digest(copy):
    (digest,) = tiny.detoxify(copy).checkpoint.sha256.values()
    source = {"uri": "url:https://example.org/toxic.ckpt", "sha256": digest}
    assert loaded(copy, checkpoint=source).score(HOSTILE)[0] > 0.9
    with pytest.raises(UserError, match=r"expected sha256 0000.* \(pinned\)"):
        loaded(copy, checkpoint=source | {"sha256": "0" * 64})


def test_a_weight_that_is_not_there_is_not_made_up(copy):
    changed(copy, lambda held: held["state_dict"].pop("classifier.dense.weight"))
    with pytest.raises(UserError, match=r"the checkpoint lacks classifier\.dense\.weight;"):
        loaded(copy)


def test_weights_of_another_shape_are_refused(copy):
    changed(copy, lambda held: held["state_dict"].update({"classifier.out_proj.weight": torch.zeros(7, 32)}))
    with pytest.raises(UserError, match="Detoxify's unbiased cannot be read"):
        loaded(copy)


def test_weights_that_are_no_numbers_are_refused(copy):
    changed(copy, lambda held: held["state_dict"]["classifier.dense.bias"].fill_(torch.nan))
    with pytest.raises(UserError, match=r"NaN or infinity in classifier\.dense\.bias"):
        loaded(copy)


@pytest.mark.parametrize("key", ["config", "state_dict"])
def test_another_kind_of_checkpoint_is_refused(copy, key):
    changed(copy, lambda held: held.pop(key))
    with pytest.raises(UserError, match="expected a checkpoint of Detoxify"):
        loaded(copy)


def test_a_head_that_knows_nothing_is_noticed_at_the_start(copy):
    changed(copy, lambda held: held["state_dict"]["classifier.out_proj.weight"].zero_())
    with pytest.raises(UserError, match="'unbiased' looks wrong"):
        loaded(copy)


def test_the_tokenizers_files_must_be_there(copy):
    (copy / "tokenizer" / "merges.txt").unlink()
    with pytest.raises(UserError, match=r"tokenizer\.json: not found, nor any of vocab\.json with merges\.txt"):
        loaded(copy)


def test_two_checkpoints_are_one_too_many(copy):
    shutil.copyfile(checkpoint_of(copy), copy / "checkpoint" / "other.ckpt")
    with pytest.raises(UserError, match=r"expected one file, .* found other\.ckpt, toxic_unbiased\.ckpt"):
        loaded(copy)


def test_the_fingerprint_is_of_all_files_and_settings(made, copy):
    first = loaded(made["unbiased"][0]).fingerprint
    assert loaded(copy).fingerprint == first
    others = [loaded(copy, head="insult").fingerprint, loaded(copy, max_tokens=31).fingerprint]
    changed(copy, lambda held: held["state_dict"]["classifier.out_proj.bias"].add_(1e-3))
    others.append(loaded(copy).fingerprint)
    (copy / "tokenizer" / "tokenizer_config.json").write_text("{}")
    others.append(loaded(copy).fingerprint)
    assert len({first, *others}) == 5


def test_the_section_tells_where_its_two_parts_lie(made):
    from pipeline.scorers.loading import sources_of

    config = tiny.detoxify(made["unbiased"][0])
    assert isinstance(config, DetoxifyScorer)
    found = sources_of({"scorer": config})
    assert found == {"scorer/checkpoint": config.checkpoint, "scorer/tokenizer": config.tokenizer}
