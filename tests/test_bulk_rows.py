"""Corpora as rows: every format, honest and broken, and the parts that rows fall into."""

from __future__ import annotations

import io
import json
import os
import sys

import pytest
from tfcore.bulk import readers, rows
from tfcore.bulk.readers import Corpus
from tfcore.bulk.rows import Row, parts_of

TEXTS = ["a cat", "", "naïve café 東京 🦀", 'quo"ted, commas', "\u2028 no end of line", "tab\tand nul \0", "  blanks  "]


def read(path, content, kind=None, field=None):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return list(Corpus(str(path), kind, field).rows())


def texts(found):
    found = list(found)
    assert not [row for row in found if row.fault]
    return [row.text for row in found]


def faults(found):
    """{place: fault} of the bad rows."""
    assert all((row.text is None) == bool(row.fault) for row in found)
    return {row.place: row.fault for row in found if row.fault}


# ---- lines


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("last", [True, False], ids=["ended", "open"])
@pytest.mark.parametrize("mark", ["", "\ufeff"], ids=["plain", "BOM"])
def test_lines(tmp_path, end, last, mark):
    found = read(tmp_path / "c.txt", mark + end.join(TEXTS) + end * last)
    assert texts(found) == TEXTS
    assert [row.place for row in found][:2] == ["line 1", "line 2"]


def test_few_lines(tmp_path):
    assert read(tmp_path / "c.txt", "") == []
    assert texts(read(tmp_path / "c.txt", "\n")) == [""]
    assert read(tmp_path / "c.txt", "\ufeff") == []
    assert texts(read(tmp_path / "c.txt", "\n\na\n\n")) == ["", "", "a", ""]
    assert texts(read(tmp_path / "c.txt", "one\rtwo")) == ["one\rtwo"]


def test_lines_that_are_not_utf8(tmp_path):
    found = read(tmp_path / "c.txt", b"good\nb\xffd\ngood\n\xed\xa0\x80")
    assert faults(found) == {"line 2": "not UTF-8 (byte 2)", "line 4": "not UTF-8 (byte 1)"}
    with pytest.raises(ValueError, match=r"c\.txt: is UTF-16"):
        read(tmp_path / "c.txt", "a\nb".encode("utf-16"))


@pytest.mark.parametrize("extra", [0, 1, 2, 30])
@pytest.mark.parametrize("end", ["\n", "\r\n", ""])
def test_a_long_line(tmp_path, monkeypatch, extra, end):
    monkeypatch.setattr(readers, "MOST_LINE", 10)
    found = read(tmp_path / "c.txt", "a\n" + "x" * (10 + extra) + end + ("b" if end else ""))
    assert [row.text for row in found] == ["a", None if extra else "x" * 10] + ["b"] * bool(end)


# ---- JSON


def test_json(tmp_path):
    content = "\n".join(json.dumps({"id": n, "text": text}) for n, text in enumerate(TEXTS))
    assert texts(read(tmp_path / "c.jsonl", content)) == TEXTS
    assert texts(read(tmp_path / "c.ndjson", "\ufeff" + content.replace("\n", "\r\n\r\n"))) == TEXTS
    assert texts(read(tmp_path / "c.jsonl", '{"body": "b", "text": 1}', field="body")) == ["b"]


def test_json_that_is_wrong(tmp_path):
    lines = ['{"text": "a"}', "{", '["a"]', '{"txt": "a"}', '{"text": 3}', '{"text": null}', '{"text": "\\ud800"}']
    lines += ["[" * 100_000, '{"text": ' + "9" * 10_000 + "}", '"a"', '{"text": "z"}']
    found = read(tmp_path / "c.jsonl", "\n".join(lines).encode() + b'\n{"text": "\xff"}')
    assert [row.text for row in found if row.text] == ["a", "z"]
    told = faults(found)
    assert list(told) == [f"line {n}" for n in (2, 3, 4, 5, 6, 7, 8, 9, 10, 12)]
    assert told["line 2"].startswith("not JSON")
    assert told["line 3"] == "a JSON list, expected an object with 'text'"
    assert told["line 4"] == "has no 'text'"
    assert told["line 5"] == "'text' is int, expected a string"
    assert told["line 6"] == "'text' is NoneType, expected a string"
    assert "surrogate" in told["line 7"]
    assert told["line 12"] == "not UTF-8 (byte 11)"


# ---- CSV


def test_csv(tmp_path):
    lines = ['id,text,"the, body"', "1,a,b", '2,"two ""lines""\nin a field",c', "", "3,ü,d"]
    found = read(tmp_path / "c.csv", "\ufeff" + "\r\n".join(lines))
    assert texts(found) == ["a", 'two "lines"\nin a field', "ü"]
    assert [row.place for row in found] == ["line 2", "line 3", "line 6"]
    assert texts(read(tmp_path / "c.csv", "\n".join(lines), field="the, body")) == ["b", "c", "d"]
    assert texts(read(tmp_path / "c.tsv", "id\ttext\n1\ta,b\n")) == ["a,b"]
    assert texts(read(tmp_path / "c.csv", "anything\na\n")) == ["a"]
    assert texts(read(tmp_path / "c.csv", 'text\r\n"a\r\nb"\r\nc\r\n')) == ["a\r\nb", "c"]
    assert read(tmp_path / "c.csv", "") == []
    assert read(tmp_path / "c.csv", "text\n") == []


def test_csv_that_is_wrong(tmp_path, monkeypatch):
    monkeypatch.setattr(readers, "MOST_LINE", 40)
    content = b"id,text\n1,good\n2\n3,b\xffd\n4," + b"x" * 50 + b"\n\xff,good\n" + b'5,"' + b"y\n" * 30 + b'"\n6,good\n'
    found = read(tmp_path / "c.csv", content)
    told = faults(found)
    assert told["line 3"] == "has 1 fields, no 'text'"
    assert told["line 4"] == "'text' is not UTF-8 (byte 2)"
    assert "line 5" in told
    assert next(row for row in found if row.place == "line 6").text == "good"
    assert "not CSV" in told["line 7"]
    with pytest.raises(ValueError, match=r"no column 'text' among 'a', 'b': give field=\"NAME\""):
        read(tmp_path / "c.csv", "a,b\n1,2\n")
    with pytest.raises(ValueError, match=r"c\.csv: 2 columns are called 'text', expected one"):
        read(tmp_path / "c.csv", "text,text\n1,2\n")
    unquoted = read(tmp_path / "c.csv", "id,text\n1,Hello, world\n2,a trailing comma,\n")
    assert faults(unquoted) == {"line 2": "has 3 fields, and the header 2"}
    assert unquoted[1].text == "a trailing comma"
    cut = read(tmp_path / "c.csv", 'text\nfirst\n"second\nthird\n')
    assert texts(cut[:1]) == ["first"]
    assert faults(cut) == {"line 3": "not CSV (a quote is open at the end)"}
    stray = read(tmp_path / "c.tsv", 'id\ttext\n1\t"hello\n2\tmid\n3\tworld" he said\n4\tz\n')
    assert faults(stray) == {"line 2": "not CSV ('\t' expected after '\"')"}
    assert texts(stray[1:]) == ["z"]
    with pytest.raises(ValueError, match="header cannot be read"):
        read(tmp_path / "c.csv", '"text\nfirst\n')


def test_csv_fields_that_are_too_long(tmp_path, monkeypatch):
    """Rows behind them keep their places."""
    monkeypatch.setattr(readers, "MOST_LINE", 20)
    long = "x" * 30
    for bad in (
        f'1,"{long}\nsecond, line"',
        f'1,"a\n{long}, line"',
        f"1,{long}",
        '1,"' + "a, b\n" * 8 + 'c"',
        f'{long},"a"',
    ):
        found = read(tmp_path / "c.csv", f"id,text\n{bad}\n2,ok\n")
        assert [row.text for row in found] == [None, "ok"], bad
        assert "longer than" in found[0].fault or "not CSV" in found[0].fault
        assert found[1].place == f"line {3 + bad.count(chr(10))}"


def test_the_field_limit_of_the_process_is_kept(tmp_path):
    import csv

    earlier = csv.field_size_limit()
    assert texts(read(tmp_path / "c.csv", "text\n" + "x" * (earlier + 1))) == ["x" * (earlier + 1)]
    assert csv.field_size_limit() == earlier


# ---- Parquet


def write_parquet(path, columns, **options):
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    parquet.write_table(arrow.table(columns), path, **options)


@pytest.mark.parametrize("kind", ["string", "large_string", "dictionary"])
def test_parquet(tmp_path, kind):
    arrow = pytest.importorskip("pyarrow")
    wanted = arrow.dictionary(arrow.int32(), arrow.string()) if kind == "dictionary" else getattr(arrow, kind)()
    column = (
        arrow.array(TEXTS * 100).cast(wanted) if kind != "dictionary" else arrow.array(TEXTS * 100).dictionary_encode()
    )
    write_parquet(tmp_path / "c.parquet", {"id": list(range(700)), "text": column}, row_group_size=33)
    found = list(Corpus(str(tmp_path / "c.parquet")).rows())
    assert texts(found) == TEXTS * 100
    assert found[-1].place == "row 700"


def test_parquet_that_is_wrong(tmp_path):
    arrow = pytest.importorskip("pyarrow")
    raw = arrow.array([b"good", b"b\xffd", None], arrow.binary())
    broken = arrow.StringArray.from_buffers(3, *raw.buffers()[1:], raw.buffers()[0])
    path = tmp_path / "c.parquet"
    write_parquet(path, {"text": broken, "number": [1, 2, 3]})
    assert faults(list(Corpus(str(path)).rows())) == {"row 2": "not UTF-8 (byte 2)", "row 3": "null"}
    with pytest.raises(ValueError, match="column 'number' holds int64, expected strings"):
        list(Corpus(str(path), field="number").rows())
    with pytest.raises(ValueError, match="no column 'nothing'"):
        list(Corpus(str(path), field="nothing").rows())
    path.write_bytes(b"PAR1 and no more")
    with pytest.raises(ValueError, match=r"c\.parquet: not a Parquet file"):
        list(Corpus(str(path)).rows())


def test_parquet_of_few_bytes_changed(tmp_path):
    """A damaged page may read as fewer rows: the rows behind it must not move up."""
    path = tmp_path / "c.parquet"
    write_parquet(path, {"text": [f"row {n}" for n in range(100)]}, row_group_size=7, compression="none")
    whole, told = path.read_bytes(), []
    for place in range(4, 400):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 50]) + whole[place + 1 :])
        try:
            found = list(Corpus(str(path)).rows())
        except ValueError as error:
            told.append(str(error))
        else:
            assert len(found) == 100
    assert all("c.parquet: " in line for line in told)
    assert any("c.parquet: damaged: " in line for line in told)


def test_parquet_columns_whose_names_clash(tmp_path):
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    write_parquet(tmp_path / "c.parquet", {"a": arrow.array([{"b": "within"}]), "a.b": ["dotted"]})
    assert texts(Corpus(str(tmp_path / "c.parquet"), field="a.b").rows()) == ["dotted"]
    twice = arrow.table([arrow.array(["x"]), arrow.array(["y"])], names=["text", "text"])
    parquet.write_table(twice, tmp_path / "twice.parquet")
    with pytest.raises(ValueError, match="2 columns are called 'text', expected one"):
        list(Corpus(str(tmp_path / "twice.parquet")).rows())


def test_parquet_without_its_extra(tmp_path, monkeypatch):
    (tmp_path / "c.parquet").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(ImportError, match=r'reading Parquet needs pyarrow .*pip install "tfcore\[parquet\]"'):
        list(Corpus(str(tmp_path / "c.parquet")).rows())


# ---- a corpus as a whole


def test_what_is_no_corpus(tmp_path):
    (tmp_path / "c.doc").write_text("a")
    (tmp_path / "c.txt").write_text("a")
    with pytest.raises(FileNotFoundError, match=r"nothing\.txt: no such file"):
        Corpus(str(tmp_path / "nothing.txt"))
    (tmp_path / "d.txt").mkdir()
    with pytest.raises(FileNotFoundError, match=r"d\.txt: is a folder"):
        Corpus(str(tmp_path / "d.txt"))
    with pytest.raises(ValueError, match=r'c\.doc: expected a name that ends in \.txt, .* or kind="txt"'):
        Corpus(str(tmp_path / "c.doc"))
    with pytest.raises(FileNotFoundError, match="an empty name: no such file"):
        Corpus("")
    with pytest.raises(FileNotFoundError, match="nothing: no such file"):
        Corpus(tmp_path / "nothing")
    with pytest.raises(ValueError, match="kind is 'xml', expected one of 'txt', 'jsonl', 'csv', 'tsv', 'parquet'"):
        Corpus(tmp_path / "c.txt", "xml")
    with pytest.raises(TypeError, match="source is int, expected a file's name"):
        Corpus(0)
    with pytest.raises(ValueError, match="standard input: Parquet cannot be read from a pipe"):
        Corpus("-", "parquet")
    with pytest.raises(ValueError, match="lines of text have no fields"):
        Corpus(str(tmp_path / "c.txt"), field="text")
    assert texts(Corpus(tmp_path / "c.doc", "txt").rows()) == ["a"]


def test_a_corpus_is_known_by_its_content(tmp_path):
    one, two = tmp_path / "one.txt", tmp_path / "two.txt"
    content = b"x" * 200_000
    one.write_bytes(content)
    two.write_bytes(content)
    os.utime(two, (1, 1))
    assert Corpus(str(one)).fingerprint() == Corpus(str(two)).fingerprint()
    seen = [Corpus(str(one)).fingerprint(), Corpus(str(one), "jsonl").fingerprint()]
    for other in (b"y" + content[1:], content[:-1] + b"y", content + b"x", b""):
        one.write_bytes(other)
        seen.append(Corpus(str(one)).fingerprint())
    assert all(seen.count(one) == 1 for one in seen)


def test_how_much_has_been_read(tmp_path):
    path = tmp_path / "c.txt"
    path.write_text("12345\n" * 10)
    corpus = Corpus(str(path))
    shares = [corpus.share_read() for _ in corpus.rows()]
    assert shares == pytest.approx([n / 10 for n in range(1, 11)])
    assert corpus.share_read() == 1
    assert Corpus("-").share_read() is None


# ---- parts


def cut(lengths, most_rows):
    """The rows' numbers in each part."""
    found = list(parts_of([Row("x" * n, "") for n in lengths], most_rows))
    assert [part.number for part in found] == list(range(len(found)))
    return [list(range(part.first, part.first + len(part.rows))) for part in found]


def test_parts(monkeypatch):
    assert cut([], 2) == []
    assert cut([1] * 5, 2) == [[0, 1], [2, 3], [4]]
    assert cut([1] * 4, 2) == [[0, 1], [2, 3]]
    monkeypatch.setattr(rows, "MOST_CHARACTERS", 10)
    assert cut([3, 8, 1, 40, 1, 9, 1], 4) == [[0, 1], [2, 3], [4, 5], [6]]


def test_a_part_is_known_by_its_rows():
    variants = [
        ["a", "b"],
        ["ab", ""],
        ["", "ab"],
        ["a", None],
        ["a", ""],
        [None, "a"],
        ["a"],
        ["a", "b", ""],
        ["b", "a"],
    ]
    digests = {next(parts_of([Row(text, "") for text in variant], 9)).digest() for variant in variants}
    assert len(digests) == len(variants)
    part = next(parts_of([Row("a", "line 1"), Row(None, "line 2", "bad"), Row("b", "line 3")], 9))
    assert part.texts == ["a", "b"]
    assert part.bad == [1]


def test_a_named_pipe(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with open(os.open(tmp_path / "pipe", os.O_RDWR), "wb", buffering=0) as pipe:
        corpus = Corpus(str(tmp_path / "pipe"), "txt")
        found = corpus.rows()
        pipe.write(b"a\nb\n")
        assert [next(found).text, next(found).text] == ["a", "b"]
        assert corpus.share_read() is None


def test_standard_input(monkeypatch):
    read_end, write_end = os.pipe()
    os.write(write_end, b"a\r\nb")
    os.close(write_end)
    with open(read_end, "rb") as pipe:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(pipe))
        assert texts(Corpus("-").rows()) == ["a", "b"]
