"""Text files and tables as other programs write them."""

from __future__ import annotations

import codecs

import pytest

from efface.core.errors import CorruptArtifactError, EffaceError
from efface.core.text_files import MAX_SEED, find_column, parse_finite, parse_seed, read_table, read_text

TABLE = "prompt,sd_seed\ncafé,1\n"


@pytest.mark.parametrize(
    "raw",
    [
        TABLE.encode(),
        TABLE.encode("utf-8-sig"),
        TABLE.encode("utf-16"),
        codecs.BOM_UTF16_BE + TABLE.encode("utf-16-be"),
        TABLE.encode("utf-32"),
        TABLE.replace(",", ";").encode(),
        TABLE.replace(",", "\t").replace("\n", "\r\n").encode(),
        b"\n" + TABLE.replace("prompt", " Prompt ").encode() + b"\n,\n",
        TABLE.replace("\n", ",,\n").encode(),
    ],
)
def test_tables_in_any_encoding_and_with_any_separator(raw, tmp_path):
    (tmp_path / "t.csv").write_bytes(raw)
    (row,) = read_table(tmp_path / "t.csv")
    assert row.values == {"prompt": "café", "sd_seed": "1"}
    assert row.where.startswith(f"{tmp_path / 't.csv'}, line ")


@pytest.mark.parametrize("raw", ["café".encode("cp1252"), "cat\n".encode("utf-16-le"), b"\xff\xfe\x00"])
def test_text_in_another_encoding_is_refused_in_one_line(raw, tmp_path):
    (tmp_path / "t.txt").write_bytes(raw)
    with pytest.raises(EffaceError, match=r"cannot read .*t\.txt: it is not text in UTF-8.*save it as UTF-8") as caught:
        read_text(tmp_path / "t.txt")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("prompt,seed\na dog, and a cat,1\n", r"line 2: the row has 3 fields, the header 2.*quotation marks"),
        ("prompt,seed\na,1\n\nb\n", r"line 4: the row has 1 fields, the header 2"),
        ('prompt,seed\n"a,1\nb,2\n', r"line 3: not a row of a CSV file"),
        ("prompt,Prompt\na,b\n", "two columns 'prompt': rename one"),
        ("prompt,seed\n", "has no rows"),
        ("", "has no rows"),
    ],
)
def test_tables_with_broken_rows_are_refused_with_the_line(text, message, tmp_path):
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(EffaceError, match=message) as caught:
        read_table(tmp_path / "t.csv")
    assert "\n" not in str(caught.value)


def test_a_table_without_a_header_is_refused(tmp_path):
    (tmp_path / "t.csv").write_text("a dog,1\na cat,2\n")
    with pytest.raises(EffaceError, match=r"no column prompt or caption, only a dog, 1: .*add the header"):
        find_column(tmp_path / "t.csv", read_table(tmp_path / "t.csv")[0], ("prompt", "caption"))


def test_seeds_as_spreadsheets_write_them():
    for text, seed in (("3016", 3016), ("3016.0", 3016), (" 7 ", 7), ("3.016E3", 3016), (str(MAX_SEED), MAX_SEED)):
        assert parse_seed(text, "t.csv, line 2") == seed
    for text in ("", " ", "inf", "-inf", "nan", "1.5", "-1", "3,016", "1e999999999", str(MAX_SEED + 1), "x" * 1000):
        with pytest.raises(CorruptArtifactError, match=r"t\.csv, line 2: .* is no seed; give a whole number from 0"):
            parse_seed(text, "t.csv, line 2")


def test_numbers_must_be_finite():
    assert parse_finite("7.5", "guidance scale", "t.csv, line 2") == 7.5
    for text in ("", "inf", "nan", "seven", "1e400"):
        with pytest.raises(CorruptArtifactError, match="is no guidance scale; give a number"):
            parse_finite(text, "guidance scale", "t.csv, line 2")
