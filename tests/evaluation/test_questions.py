"""Multiple-choice questions: both layouts are read strictly, and the draw follows from content alone."""

import pytest

from pipeline.evaluation.probe import Question, draw, read_questions
from pipeline.io.errors import UserError
from pipeline.io.records import write_jsonl

ENDINGS = {"question": "A man opens the door. he", "answer": ["walks in.", "eats the door.", "sings to it."]}
OPTIONS = {"question": "to open a door", "options": "A. turn the handle\nB. paint it", "answer": "A. turn the handle"}
ROWS = {"endings": ENDINGS, "options": OPTIONS}


@pytest.fixture
def read(tmp_path):
    """Return what writes rows to a file and reads them as questions."""

    def read(layout, rows):
        write_jsonl(tmp_path / "rows.jsonl", rows)
        return read_questions(tmp_path / "rows.jsonl", layout)

    return read


def many(count):
    return [Question(f"{place:016x}", f"question {place}", ("yes", "no"), None) for place in range(count)]


def test_endings_have_no_right_one(read):
    (question,) = read("endings", [ENDINGS])
    assert question.context == ENDINGS["question"]
    assert question.choices == tuple(ENDINGS["answer"])
    assert question.label is None


def test_options_lose_their_letters_and_the_answer_is_one_of_them(read):
    (first,) = read("options", [OPTIONS])
    (second,) = read("options", [OPTIONS | {"answer": "B. paint it"}])
    assert first.choices == ("turn the handle", "paint it")
    assert (first.label, second.label) == (0, 1)
    assert "to open a door" in first.context


def test_space_around_a_text_changes_nothing(read):
    spaced = {"question": " to open a door ", "options": "A. turn the handle  \nB.  paint it", "answer": "B.  paint it"}
    assert read("options", [spaced]) == read("options", [OPTIONS | {"answer": "B. paint it"}])


@pytest.mark.parametrize("layout", ROWS)
def test_a_question_that_stands_twice_counts_once(layout, read):
    assert read(layout, [ROWS[layout], ROWS[layout]]) == read(layout, [ROWS[layout]])


def test_the_same_question_with_other_choices_is_another(read):
    found = read("endings", [ENDINGS, ENDINGS | {"answer": ["walks out.", "falls."]}])
    assert len({question.id for question in found}) == 2


@pytest.mark.parametrize(
    ("layout", "change", "named"),
    [
        ("endings", {"question": None}, "question"),
        ("endings", {"question": " "}, "question"),
        ("endings", {"answer": "walks in."}, "answer"),
        ("endings", {"answer": ["walks in."]}, "choices"),
        ("endings", {"answer": ["walks in.", " walks in."]}, "choices"),
        ("endings", {"answer": ["walks in.", 3]}, "choice"),
        ("options", {"options": "A. turn the handle\nC. paint it"}, "options"),
        ("options", {"options": "turn the handle\npaint it"}, "options"),
        ("options", {"options": ["A. turn the handle"]}, "options"),
        ("options", {"answer": "C. knock"}, "answer"),
        ("options", {"answer": None}, "answer"),
    ],
)
def test_a_malformed_row_is_named_by_file_and_line(layout, change, named, read):
    with pytest.raises(UserError, match=rf"rows\.jsonl:2: {named}: expected .*; repair or remove the row"):
        read(layout, [ROWS[layout], ROWS[layout] | change])


def test_one_question_cannot_have_two_answers(read):
    with pytest.raises(UserError, match=r"rows\.jsonl:2: answer"):
        read("options", [OPTIONS, OPTIONS | {"answer": "B. paint it"}])


def test_a_file_without_questions_is_refused(read):
    with pytest.raises(UserError, match="expected questions, found none"):
        read("endings", [])


def test_a_draw_depends_on_content_and_seed_and_not_on_order():
    questions = many(60)
    drawn = draw(questions, 20, seed=0)
    assert drawn == draw(questions[::-1], 20, seed=0)
    assert drawn != draw(questions, 20, seed=1)
    assert len(set(drawn)) == 20
    assert draw(questions, 100, seed=0) == questions


def test_added_rows_displace_at_most_as_many():
    before = draw(many(60), 20, seed=0)
    after = draw(many(65), 20, seed=0)
    assert len(set(before) - set(after)) <= 5
    assert set(after) - set(before) <= set(many(65)[60:])
