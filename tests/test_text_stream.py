"""Text as its tokens come: the pieces, joined, are what `decode` says of all tokens, and none is taken back."""

import random

import numpy as np
import pytest
from tfcore import AutoTokenizer
from tfcore.models.text_stream import TextStream
from tokenizer_cases import TEXTS

FOLDERS = ["bert", "gpt2", "llama", "gemma", "marian", "mpnet", "qwen2-json", "roberta-json", "t5", "xlm-roberta"]


def pieces(stream, ids, sizes=(1,), seed=0):
    """What the stream says after each id, or each few ids, and at the end."""
    chance, said, at = random.Random(seed), [], 0
    while at < len(ids):
        size = chance.choice(sizes)
        said.append(stream.put(ids[at] if size == 1 else ids[at : at + size]))
        at += size
    return [*said, stream.end()]


@pytest.mark.parametrize("clean_up", [False, True])
@pytest.mark.parametrize("name", FOLDERS)
def test_joined_they_are_the_text(folders, name, clean_up):
    tokenizer = AutoTokenizer.from_pretrained(folders / name)
    tokenizer.clean_up_tokenization_spaces = clean_up
    chance = random.Random(1)
    for trial in range(60):
        ids = tokenizer(" ".join(chance.choices(TEXTS, k=3)))["input_ids"]
        if trial % 2:
            ids = [chance.randrange(len(tokenizer)) for _ in range(chance.randrange(40))]
        for skip in (False, True):
            stream = TextStream(tokenizer, skip_special_tokens=skip)
            want = tokenizer.decode(ids, skip_special_tokens=skip)
            assert "".join(pieces(stream, ids, (1, 1, 2, 7), trial)) == want, ids
            assert "".join(pieces(stream, ids)) == want, "a stream can be used again"


def test_half_a_character_waits(folders):
    for name in ("gpt2", "llama"):
        tokenizer = AutoTokenizer.from_pretrained(folders / name)
        ids = tokenizer.encode("a🙂é b", add_special_tokens=False)
        said = pieces(TextStream(tokenizer), ids)
        assert "".join(said) == "a🙂é b"
        assert not any("\ufffd" in piece for piece in said)
        assert said[0] == "a"


def test_words_come_as_soon_as_they_are_settled(folders):
    tokenizer = AutoTokenizer.from_pretrained(folders / "llama")
    ids = tokenizer.encode("the quick fox", add_special_tokens=False)
    stream = TextStream(tokenizer)
    assert [stream.put(token) for token in ids] == [
        tokenizer.decode(ids[: i + 1])[len(tokenizer.decode(ids[:i])) :] for i in range(len(ids))
    ]
    assert stream.end() == ""


def test_spaces_that_a_clean_up_takes_back_wait(folders):
    tokenizer = AutoTokenizer.from_pretrained(folders / "bert")
    tokenizer.clean_up_tokenization_spaces = True
    ids = tokenizer.encode("hello , the fox ' s", add_special_tokens=False)
    said = pieces(TextStream(tokenizer), ids)
    assert "".join(said) == tokenizer.decode(ids) == "hello, the fox's"
    assert said[0] == ""


def test_what_comes_in(folders):
    tokenizer = AutoTokenizer.from_pretrained(folders / "gpt2")
    ids = tokenizer.encode("the fox")
    stream = TextStream(tokenizer)
    assert stream.put([]) == stream.end() == ""
    assert stream.put(np.array(ids)) + stream.put(np.int64(tokenizer.eos_token_id)) + stream.end() == "the fox"
    assert TextStream(tokenizer, skip_special_tokens=False).put(tokenizer.eos_token_id) == "<|endoftext|>"


@pytest.mark.parametrize("text", ["the quick fox " * 50, "\ufffd" * 200, "🙂" * 60, "\x00" * 300])
@pytest.mark.parametrize("name", ["gpt2", "llama", "bert", "xlm-roberta"])
def test_the_work_grows_with_the_text_alone(folders, monkeypatch, name, text):
    tokenizer = AutoTokenizer.from_pretrained(folders / name)
    check_work(tokenizer, tokenizer.encode(text), monkeypatch)


def test_bytes_that_are_no_characters_are_no_burden(folders, monkeypatch):
    tokenizer = AutoTokenizer.from_pretrained(folders / "gpt2")
    for byte in "ÿĢâ":  # 0xff, 0x80, 0xe2 in GPT-2's letters
        check_work(tokenizer, [tokenizer.convert_tokens_to_ids(byte)] * 500, monkeypatch)
    llama = AutoTokenizer.from_pretrained(folders / "llama")
    check_work(llama, [llama.convert_tokens_to_ids("<0xE2>")] * 500, monkeypatch)


def check_work(tokenizer, ids, monkeypatch):
    decoded, decode = [], tokenizer.decode
    with monkeypatch.context() as patch:
        patch.setattr(tokenizer, "decode", lambda ids, **options: decoded.append(len(ids)) or decode(ids, **options))
        said = pieces(TextStream(tokenizer, skip_special_tokens=False), ids)
    assert "".join(said) == decode(ids)
    assert sum(decoded) <= 30 * len(ids)
