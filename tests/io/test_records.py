"""JSON, JSONL and CSV on disk: whole or not there, the same bytes for the same values, and errors that name a line."""

import json
import os

import pytest

from pipeline.io import records
from pipeline.io.errors import UserError


def test_numbers_are_rounded_and_what_is_not_finite_is_missing(tmp_path):
    records.write_json(
        tmp_path / "a.json",
        {"third": 1 / 3, "nan": float("nan"), "inf": [float("inf"), (-float("inf"), 2)], "yes": True, "big": 10**20},
    )
    assert records.read_json(tmp_path / "a.json") == {
        "third": 0.333333,
        "nan": None,
        "inf": [None, [None, 2]],
        "yes": True,
        "big": 10**20,
    }
    assert "NaN" not in (tmp_path / "a.json").read_text() and "Infinity" not in (tmp_path / "a.json").read_text()


def test_differences_below_the_sixth_digit_leave_no_trace(tmp_path):
    records.write_json(tmp_path / "a.json", {"x": 0.1 + 0.2, "nested": {"y": [1e-9]}})
    records.write_json(tmp_path / "b.json", {"nested": {"y": [0.0]}, "x": 0.3})
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()


def test_numpy_numbers_are_written_as_numbers(tmp_path):
    import numpy as np

    records.write_json(tmp_path / "a.json", {"x": np.float64(1 / 3), "nan": np.float64("nan")})
    assert json.loads((tmp_path / "a.json").read_text()) == {"x": 0.333333, "nan": None}


def test_rows_come_back_in_their_order_whatever_characters_they_hold(tmp_path):
    rows = [{"text": "one\u2028two\r\nthree\x85 \x0b'\"\\"}, {"text": "Grüße 🙂", "n": 1}, {}]
    assert records.write_jsonl(tmp_path / "a.jsonl", iter(rows)) == 3
    assert records.read_jsonl(tmp_path / "a.jsonl") == rows


def failing_rows():
    yield {"fresh": 1}
    raise RuntimeError("scorer died")


def write_rows(path):
    records.write_jsonl(path, failing_rows())


def write_object(path):
    records.write_json(path, {"a": object()})


def write_table(path):
    records.write_csv(path, [{"a": 1}, {"a": 2, "unknown": 3}])


@pytest.mark.parametrize("write", [write_rows, write_object, write_table])
@pytest.mark.parametrize("there", [True, False])
def test_a_failure_keeps_the_old_file_and_leaves_nothing_else(tmp_path, write, there):
    path = tmp_path / "out"
    if there:
        path.write_text("old")
    with pytest.raises((RuntimeError, TypeError, ValueError)):
        write(path)
    assert [(item.name, item.read_text()) for item in tmp_path.iterdir()] == ([("out", "old")] if there else [])


def test_the_file_stays_whole_while_it_is_being_replaced(tmp_path):
    path = tmp_path / "out"
    path.write_text("old")
    with records.replacing(path) as temporary:
        temporary.write_text("half")
        assert path.read_text() == "old"
        assert temporary.parent == path.parent, "a rename is atomic only within one file system"
    assert path.read_text() == "half"
    assert os.listdir(tmp_path) == ["out"]


def test_folders_are_made(tmp_path):
    records.write_json(tmp_path / "new" / "folder" / "a.json", {})
    assert records.read_json(tmp_path / "new" / "folder" / "a.json") == {}


def test_a_table_has_the_first_row_s_columns_and_empty_cells_where_values_are_missing(tmp_path):
    records.write_csv(tmp_path / "a.csv", [{"step": 1, "loss": 1 / 3}, {"step": 2, "loss": float("nan")}, {"step": 3}])
    assert (tmp_path / "a.csv").read_bytes() == b"step,loss\n1,0.333333\n2,\n3,\n"


@pytest.mark.parametrize("read", [records.read_json, records.read_jsonl])
def test_a_file_that_is_not_there_names_the_remedy(tmp_path, read):
    with pytest.raises(UserError, match=r"gone\.json: not found; run `dvc repro`"):
        read(tmp_path / "gone.json")


@pytest.mark.parametrize("content", ['{"a": 1', "[1, 2]", "", '"text"', b"\xff\xfe"])
def test_a_broken_object_names_its_file(tmp_path, content):
    path = tmp_path / "bad.json"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError, match=r"bad\.json: expected (one JSON object|UTF-8 text)"):
        records.read_json(path)


@pytest.mark.parametrize(
    "line",
    ["{'a': 1}", "[1]", "3", "", '{"a": 1} {"b": 2}', '{"a": 1, "a": 2}', '{"a": NaN}', r'{"a": "\ud800"}', "\ufeff{}"],
)
def test_a_broken_row_names_file_and_line(tmp_path, line):
    path = tmp_path / "bad.jsonl"
    path.write_text(f'{{"a": 1}}\n{line}\n{{"a": 2}}\n')
    with pytest.raises(UserError, match=r"bad\.jsonl:2: expected "):
        records.read_jsonl(path)


def test_rows_that_are_not_text_name_the_file(tmp_path):
    (tmp_path / "bad.jsonl").write_bytes(b'{"a": "\xff"}\n')
    with pytest.raises(UserError, match=r"bad\.jsonl: expected UTF-8"):
        records.read_jsonl(tmp_path / "bad.jsonl")


@pytest.mark.parametrize("read", [records.read_json, records.read_jsonl])
@pytest.mark.parametrize(("content", "message"), [(None, "found a folder"), (b"\xef\xbb\xbf{}", "byte order mark")])
def test_what_is_no_plain_text_file_names_itself_and_the_remedy(tmp_path, read, content, message):
    path = tmp_path / "bad.json"
    path.mkdir() if content is None else path.write_bytes(content)
    with pytest.raises(UserError, match=rf"bad\.json: expected .*{message}.*; delete it and run `dvc repro`"):
        read(path)


def test_a_byte_that_is_no_utf8_is_found_wherever_it_stands(tmp_path):
    path = tmp_path / "bad.jsonl"
    path.write_bytes(b'{"a": 1}\n' * 5000 + b'{"a": "\xff"}\n')
    with pytest.raises(UserError, match="the byte 0xff in line 5001"):
        records.read_jsonl(path)
