"""Log-likelihoods of given texts: of the right tokens, after the right ones, whatever else is in the batch."""

import math

import pytest
import torch
from tokenizers import Tokenizer, pre_tokenizers
from tokenizers.models import BPE
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

from pipeline.config.sections import IdentitySection, ProbeSection
from pipeline.evaluation.probe import Given, given_texts, probe_rows
from pipeline.io.errors import UserError
from pipeline.io.records import write_jsonl
from pipeline.policy.making import make_policy
from tests.policy import tiny_llama, tiny_t5
from tests.policy.tiny_model import END, VOCABULARY, tokenizer

SENTENCES = ["the old farmer sings", "the young farmer sings", "a old woman reads a book", "a young woman reads a book"]
IDENTITY = IdentitySection(terms=["old", "young"], templates=["the {term} farmer sings", "a {term} woman reads a book"])
ENDINGS = [
    {"question": "the sailor walks from the house", "answer": ["and sleeps", "but never sings gladly"]},
    {"question": "a bird", "answer": ["waits quietly", "reads a book", "runs"]},
]


def probe(*tasks):
    tasks = {name: {"file": f"{name}.jsonl", "layout": "endings", "questions": 10} for name in tasks}
    return ProbeSection(tasks=tasks, batch_size=3, seed=0)


@pytest.fixture
def raw(tmp_path):
    """Return a folder with the questions of the task `tale`."""
    write_jsonl(tmp_path / "tale.jsonl", ENDINGS)
    return tmp_path


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DEVICE", "cpu")


@pytest.fixture
def policy(workplace):
    tiny_llama.write_base()
    return tiny_llama.load("reference")


def ids(text):
    return tuple(VOCABULARY.index(word) for word in text.split())


def closing():
    """Return the tiny tokenizer as one that ends every text with END, as those of encoder-decoders do."""
    made = tokenizer()
    made.backend_tokenizer.post_processor = TemplateProcessing("$A <end>", special_tokens=[("<end>", END)])
    return made


@torch.no_grad()
def plain(model, prompt_ids, token_ids):
    """Return the log-likelihood of the tokens after the prompt that the model itself gives, with nothing of ours."""
    logprobs = model(input_ids=torch.tensor([prompt_ids + token_ids])).logits[0].double().log_softmax(dim=-1)
    first = len(prompt_ids) - 1
    return math.fsum(logprobs[first + place, token].item() for place, token in enumerate(token_ids))


def test_all_of_a_sentence_but_its_first_token_is_scored(policy, raw):
    rows = probe_rows(policy, given_texts(IDENTITY, probe(), policy.tokenizer, raw), batch_size=3)
    likelihoods = [plain(policy.model, ids(text)[:1], ids(text)[1:]) for text in SENTENCES]
    assert sorted(row["logprob"] for row in rows) == pytest.approx(sorted(likelihoods), abs=1e-4)
    sizes = sorted((len(ids(text)) - 1, len(text)) for text in SENTENCES)
    assert sorted((row["tokens"], row["bytes"]) for row in rows) == sizes
    assert {(row["probe"], row["choice"], row["label"]) for row in rows} == {("identity", 0, None)}


def test_a_choice_is_scored_after_its_question(policy, raw):
    rows = probe_rows(policy, given_texts(IDENTITY, probe("tale"), policy.tokenizer, raw), batch_size=4)
    by_item = {}
    for row in rows:
        if row["probe"] == "tale":
            by_item.setdefault(row["item"], []).append((row["choice"], row["logprob"]))
    wanted = [[plain(policy.model, ids(row["question"]), ids(choice)) for choice in row["answer"]] for row in ENDINGS]
    found = [[logprob for _, logprob in sorted(choices)] for choices in by_item.values()]
    for logprobs, expected in zip(sorted(found, key=len), sorted(wanted, key=len), strict=True):
        assert logprobs == pytest.approx(expected, abs=1e-4)


def test_all_that_can_be_said_next_is_certain_to_be_said(policy):
    every = [Given("all", "0" * 16, token, None, 1, ids("the old"), (token,)) for token in range(len(VOCABULARY))]
    rows = probe_rows(policy, every, batch_size=7)
    assert math.fsum(math.exp(row["logprob"]) for row in rows) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("batch_size", [1, 2, 100])
def test_the_batch_does_not_matter_and_rows_are_sorted(batch_size, policy, raw):
    texts = given_texts(IDENTITY, probe("tale"), policy.tokenizer, raw)
    rows, others = probe_rows(policy, texts, batch_size), probe_rows(policy, texts[::-1], 5)
    keys, other_keys = ([(row["probe"], row["item"], row["choice"]) for row in found] for found in (rows, others))
    assert keys == sorted(keys) == other_keys
    assert [row["logprob"] for row in rows] == pytest.approx([row["logprob"] for row in others], abs=1e-4)


def test_a_token_across_the_boundary_is_part_of_the_choice(tmp_path):
    merges = [("b", "Ġ"), ("bĠ", "c")]  # in "aab cd" the one token "b c" covers both sides
    pieces = [*"abcd", "Ġ", *("".join(pair) for pair in merges), "<end>"]
    byte_pairs = Tokenizer(BPE(vocab={piece: place for place, piece in enumerate(pieces)}, merges=merges))
    byte_pairs.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    merging = PreTrainedTokenizerFast(tokenizer_object=byte_pairs, eos_token="<end>")
    write_jsonl(tmp_path / "tale.jsonl", [{"question": "aab", "answer": ["cd", "da"]}])
    identity = IdentitySection(terms=["a"], templates=["b{term}cd"])
    choices = [text for text in given_texts(identity, probe("tale"), merging, tmp_path) if text.probe == "tale"]
    spelled = [[merging.convert_ids_to_tokens(part) for part in (text.prompt_ids, text.token_ids)] for text in choices]
    assert spelled == [[["a", "a"], ["bĠc", "d"]], [["a", "a"], ["bĠ", "d", "a"]]]
    assert [text.bytes for text in choices] == [2, 2]


def test_a_tokenizer_that_closes_texts_makes_prompts_that_are_answered(raw):
    texts = given_texts(IDENTITY, probe("tale"), closing(), raw)
    assert all(text.prompt_ids[-1] == END for text in texts)
    sentences = {text.token_ids for text in texts if text.probe == "identity" and text.token_ids == text.prompt_ids}
    assert sentences == {(*ids(sentence), END) for sentence in SENTENCES}  # to be repeated
    choices = {(text.prompt_ids, text.token_ids) for text in texts if text.probe == "tale"}
    assert choices == {((*ids(row["question"]), END), ids(choice)) for row in ENDINGS for choice in row["answer"]}


def test_an_encoder_decoder_is_asked_to_repeat(workplace, raw):
    tiny_t5.write_base()
    model = tiny_t5.T5.load("reference").model
    policy = make_policy(tiny_t5.T5.architecture, model, closing())
    rows = probe_rows(policy, given_texts(IDENTITY, probe(), closing(), raw), batch_size=2)
    wanted = []
    for sentence in SENTENCES:
        given = torch.tensor([[*ids(sentence), END]])
        with torch.no_grad():
            wanted.append(-model(input_ids=given, labels=given).loss.item() * given.shape[1])  # the loss is a mean
    assert sorted(row["logprob"] for row in rows) == pytest.approx(sorted(wanted), abs=1e-3)


def test_a_text_without_anything_to_score_is_named(raw):
    with pytest.raises(UserError, match=r"identity [0-9a-f]{16}: expected .* got 1 and 0"):
        given_texts(IdentitySection(terms=["old"], templates=["{term}"]), probe(), tokenizer(), raw)


def test_what_is_not_finite_is_refused(policy, raw):
    policy.model.model.embed_tokens.weight.data.fill_(float("nan"))
    with pytest.raises(UserError, match="4 of 4 log-likelihoods are not finite"):
        probe_rows(policy, given_texts(IDENTITY, probe(), policy.tokenizer, raw), batch_size=3)
