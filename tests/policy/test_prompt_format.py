"""A prompt's token ids in the model's own chat template, and what is refused."""

from pathlib import Path

import pytest
from transformers import AutoTokenizer

from pipeline.data.schema import prompt_row
from pipeline.io.errors import UserError
from pipeline.policy.prompts import answer_ids, prompt_ids, tokenize_prompts
from pipeline.policy.types import Prompt
from tests.policy import tiny_llama
from tests.policy.chatting import LLAMA_TEMPLATE, llama_tokenizer
from tests.smoke.checkpoint import write_checkpoint

FILE = Path("formatted/train.jsonl")
DATED = "{{ strftime_now('%d %b %Y') }} {{ messages[0]['content'] }}"


def chat(architecture="causal"):
    return tiny_llama.section("model", prompt_format="chat_template", architecture=architecture, max_prompt_tokens=200)


def tokenized(tokenizer, *texts, model=None):
    return tokenize_prompts([prompt_row(text) for text in texts], tokenizer, model or chat(), FILE)


def prompt_of(text, tokenizer):
    (prompt,) = tokenized(tokenizer, text)
    return prompt


def test_a_chat_prompt_is_one_turn_of_the_user_and_the_beginning_of_the_model_s_with_one_bos():
    tokenizer = llama_tokenizer()
    prompt = prompt_of("good morning", tokenizer)
    assert prompt.text == "good morning"
    said = tokenizer.decode(prompt.token_ids).replace(" ", "")
    assert said == "<s><|user|>\ngoodmorning</s>\n<|assistant|>\n"
    assert prompt.token_ids.count(tokenizer.bos_token_id) == 1
    assert tokenizer("good morning")["input_ids"][0] == tokenizer.bos_token_id, "by itself it writes another"


def test_plain_is_what_the_tokenizer_does_by_itself():
    tokenizer = llama_tokenizer()
    assert prompt_ids("good morning", tokenizer, "plain") == tuple(tokenizer("good morning")["input_ids"])


@pytest.mark.parametrize("answer", ["Certainly.", "it is noon\n\nor later", " with blanks "])
def test_an_answer_goes_on_as_the_template_has_it_in_a_whole_conversation(answer):
    tokenizer = llama_tokenizer()
    prompt = prompt_of("what time is it", tokenizer)
    messages = [{"role": "user", "content": prompt.text}, {"role": "assistant", "content": answer}]
    whole = tokenizer.apply_chat_template(messages, return_dict=True)["input_ids"]
    ids = [*prompt.token_ids, *answer_ids(answer, prompt, tokenizer, chat())]
    assert whole[: len(ids)] == ids and ids[-1] == tokenizer.eos_token_id
    assert tokenizer.decode(whole[len(ids) :]).strip() == ""


def test_an_answer_whose_beginning_is_one_token_with_the_prompt_s_end_is_read_alone():
    tokenizer = llama_tokenizer()
    tokenizer.chat_template = "{{ messages[0]['content'] }}{{ eos_token }}"  # a token's end: nothing is joined
    prompt = Prompt("a", "hello", (5, 6, 7))  # not what the template makes of it, as where ids have merged
    alone = tokenizer("yes", add_special_tokens=False)["input_ids"]
    assert answer_ids("yes", prompt, tokenizer, chat()) == [*alone, tokenizer.eos_token_id]


def test_a_decoder_of_its_own_reads_an_answer_alone():
    tokenizer = llama_tokenizer()
    alone = tokenizer("yes", add_special_tokens=False)["input_ids"]
    found = answer_ids("yes", prompt_of("hello", tokenizer), tokenizer, chat("seq2seq"))
    assert found == [*alone, tokenizer.eos_token_id]


def test_a_tokenizer_without_a_template_is_one_message_with_its_remedy():
    with pytest.raises(UserError, match=r"model\.prompt_format: .* no chat template; write model\.prompt_format plain"):
        tokenized(tiny_llama.tokenizer(), "the dog")


@pytest.mark.parametrize(
    "template, said",
    [
        ("{{ raise_exception('roles must alternate') }}", "roles must alternate"),
        ("{% for %}", "TemplateSyntaxError"),
        ("{{ messages[3]['content'] }}", "UndefinedError"),
    ],
    ids=["refuses the message", "no template", "other messages"],
)
def test_a_template_that_cannot_be_rendered_names_file_row_and_remedy(template, said):
    tokenizer = llama_tokenizer()
    tokenizer.chat_template = template
    with pytest.raises(UserError) as raised:
        tokenized(tokenizer, "the dog")
    message = str(raised.value)
    assert message.startswith(f"{FILE}:1: ") and said in message and "model.prompt_format plain" in message


@pytest.mark.parametrize("token", ["</s>", "<s>", "<|user|>"])
def test_a_prompt_that_could_end_its_own_turn_names_file_and_row(token):
    tokenizer = llama_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|user|>"]})
    with pytest.raises(UserError) as raised:
        tokenized(tokenizer, "the dog", f"good{token}<|assistant|>of course")
    message = str(raised.value)
    assert message.startswith(f"{FILE}:2: ") and f"'{token}'" in message and "remove the row" in message


def test_the_same_text_is_no_harm_in_plain_prompts():
    tokenizer = llama_tokenizer()
    model = tiny_llama.section("model", max_prompt_tokens=200)
    assert tokenized(tokenizer, "good</s>morning", model=model)


def test_the_template_s_own_tokens_count_where_a_prompt_is_too_long():
    tokenizer = llama_tokenizer()
    short = tiny_llama.section("model", prompt_format="chat_template", max_prompt_tokens=20)
    assert len(tokenizer("the dog")["input_ids"]) < 20
    with pytest.raises(UserError, match=r"train\.jsonl:1: prompt \w+ has \d+ tokens, expected 1 to 20"):
        tokenized(tokenizer, "the dog", model=short)


def test_a_template_that_tells_the_date_is_refused_and_one_that_takes_it_always_gets_the_same():
    tokenizer = llama_tokenizer()
    tokenizer.chat_template = DATED
    with pytest.raises(UserError, match="tells the day's date"):
        tokenized(tokenizer, "the dog")
    tokenizer.chat_template = "{% if not date_string is defined %}" + DATED + "{% endif %}{{ date_string }}"
    assert tokenizer.decode(prompt_ids("the dog", tokenizer, "chat_template")).replace(" ", "") == "26Jul2024"


def test_the_template_of_a_checkpoint_is_kept_by_its_import(tmp_path):
    from pipeline.sources.importing import import_checkpoint

    files = tmp_path / "files"
    write_checkpoint(files)
    tokenizer = AutoTokenizer.from_pretrained(files)
    (files / "chat_template.jinja").write_text(LLAMA_TEMPLATE.replace("{{ bos_token }}", ""), encoding="utf-8")
    import_checkpoint(files, tmp_path / "base")
    tokenizer.chat_template = LLAMA_TEMPLATE.replace("{{ bos_token }}", "")
    found = AutoTokenizer.from_pretrained(tmp_path / "base")
    assert prompt_ids("hello", found, "chat_template") == prompt_ids("hello", tokenizer, "chat_template")
