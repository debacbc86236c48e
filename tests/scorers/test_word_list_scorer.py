"""The word filter: what is a hit, what changes its fingerprint, and which folders hold no list."""

import pytest

from pipeline.io.errors import UserError
from pipeline.scorers.loading import load_scorer
from pipeline.scorers.word_list import WordListScorer

PINNED = {"uri": "file:nowhere", "sha256": "0" * 64}


@pytest.fixture
def make(tmp_path):
    """Return a function that writes a list and loads its scorer."""

    def made(content, saturation=1, name="list.txt"):
        folder = tmp_path / "words"
        folder.mkdir(exist_ok=True)
        (folder / name).write_bytes(content if isinstance(content, bytes) else "\n".join(content).encode())
        config = WordListScorer(kind="word_list", source=PINNED, saturation=saturation)
        return load_scorer("words", config, folder, "exp")

    return made


@pytest.mark.parametrize(
    "text",
    [
        "darn",
        "DARN it",
        "oh, darn!",
        "(darn)",
        "'darn'",
        "_darn_",
        "*darn*...",
        "darn's",
        "what-a-darn-day",
        "well,darn:no",
        "a\ndarn\nday",
        "\u201cDarn\u201d",
    ],
)
def test_a_whole_word_is_found_in_any_case_beside_any_punctuation(make, text):
    assert make(["darn"]).score([text]) == [1]


@pytest.mark.parametrize("text", ["", "darned", "goddarn", "darn2", "2darn", "d a r n", "dar n", "\u00e9darn", "fine"])
def test_a_part_of_a_word_is_no_hit(make, text):
    assert make(["darn"]).score([text]) == [0]


def test_phrases_are_found_across_any_space(make):
    texts = ["you silly goose", "a Silly  GOOSE!", "silly\ngoose", "silly gooses", "silly, goose", "goose silly"]
    assert make(["silly goose"]).score(texts) == [1, 1, 1, 0, 0, 0]


def test_of_two_phrases_that_share_words_the_longer_one_is_the_hit(make):
    assert make(["silly", "silly goose", "goose"], saturation=10).score(["silly goose", "goose, silly"]) == [0.1, 0.2]


def test_entries_of_other_signs_are_found_as_they_are(make):
    entries = ["\U0001f4a9", "a.b", "d@rn", "n\u00e4rrisch", "stra\u00dfe", "$$"]
    texts = ["so\U0001f4a9so", " \U0001f4a9 ", "a.b", "axb", "D@RN.", "N\u00c4RRISCH", "STRASSE", "give $$ now"]
    assert make(entries).score(texts) == [1, 1, 1, 0, 1, 1, 1, 1]


def test_every_hit_counts_until_saturated(make):
    texts = ["fine", "darn", "darn darn", "darn silly darn darn", "darn " * 50]
    assert make(["darn", "silly"], saturation=4).score(texts) == [0, 0.25, 0.5, 1, 1]


def test_spaces_blank_lines_line_ends_and_a_byte_order_mark_change_nothing(make):
    texts = ["darn", "silly goose", "fine day", ""]
    plain = make(["darn", "silly goose"]).score(texts)
    assert make(b"\xef\xbb\xbfdarn\r\n\r\n   silly   goose  \r\n\n").score(texts) == plain == [1, 1, 0, 0]


def test_fingerprint_follows_list_and_saturation_and_not_the_file_name(make, tmp_path):
    first = make(["darn"]).fingerprint
    assert make(["darn"], saturation=2).fingerprint != first
    assert make(["darn", "silly"]).fingerprint != first
    (tmp_path / "words" / "list.txt").unlink()
    assert make(["darn"], name="other.txt").fingerprint == first


@pytest.mark.parametrize("content", [b"", b"\n  \n", b"\xff\xfe\x00"])
def test_an_empty_or_unreadable_list_is_named(make, content):
    with pytest.raises(UserError, match=r"list\.txt: expected .*; correct the scorer's source"):
        make(content)


def test_a_folder_without_exactly_one_list_is_named(make, tmp_path):
    with pytest.raises(UserError, match=r"words: expected one \.txt file .*, found none"):
        make(["darn"], name="list.csv")
    make(["darn"])
    with pytest.raises(UserError, match=r"words: expected one \.txt file .*, found list\.txt, more\.txt"):
        make(["silly"], name="more.txt")


def test_an_absent_folder_is_named(tmp_path):
    config = WordListScorer(kind="word_list", source=PINNED, saturation=1)
    with pytest.raises(UserError, match="nowhere: expected one .txt file"):
        load_scorer("words", config, tmp_path / "nowhere", "exp")
