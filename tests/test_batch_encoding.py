"""What a tokenizer's call returns: windows over long texts, words, where tokens are from, padding afterwards."""

import itertools
import pickle

import numpy as np
import pytest
from checkpoints import minilm
from tfcore import AutoTokenizer

QUESTION = "What is fascinating?"
CONTEXT = "Understanding Transformers is fascinating! Naïve cafés — 東京 🙂 aren't. " * 9
WORDS = ["Understanding", "Transformers", "isn't", "", "fascinating", "🙂"]
POSITIONS = ("char_to_token", "char_to_word", "token_to_chars", "token_to_word", "token_to_sequence")


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(minilm())


@pytest.fixture(scope="module")
def theirs():
    return pytest.importorskip("transformers").AutoTokenizer.from_pretrained(minilm())


def as_dict(encoded):
    return {key: value if isinstance(value, list) else value.tolist() for key, value in encoded.items()}


# ---- windows


def windows(tokenizer, **options):
    return tokenizer(
        QUESTION,
        CONTEXT,
        truncation="only_second",
        max_length=48,
        return_overflowing_tokens=True,
        return_offsets_mapping=True,
        **options,
    )


@pytest.mark.parametrize("stride", [0, 1, 16])
def test_windows_cover_a_long_text(tokenizer, stride):
    batch = windows(tokenizer, stride=stride)
    assert batch.overflow_to_sample_mapping == [0] * len(batch.input_ids)
    whole = tokenizer(CONTEXT, add_special_tokens=False)["input_ids"]
    joined = []
    for row, ids in enumerate(batch.input_ids):
        assert len(ids) <= 48
        second = [i for i, text in enumerate(batch.sequence_ids(row)) if text == 1]
        own = [ids[i] for i in second]
        assert stride == 0 or row == 0 or joined[-stride:] == own[:stride]
        joined += own[stride if row else 0 :]
        for i in second:
            start, end = batch.offset_mapping[row][i]
            assert batch.token_to_chars(row, i) == (start, end)
            assert CONTEXT[start:end]
            assert batch.char_to_token(row, start, 1) == i
    assert joined == whole


def test_windows_of_a_batch_name_their_texts(tokenizer):
    batch = tokenizer(
        ["short", CONTEXT, ""], truncation=True, max_length=32, return_overflowing_tokens=True, padding=True
    )
    assert batch.overflow_to_sample_mapping[:2] == [0, 1]
    assert batch.overflow_to_sample_mapping[-1] == 2
    assert len(batch.overflow_to_sample_mapping) == len(batch.input_ids) == len(batch.encodings)
    assert {len(row) for row in batch.input_ids} == {32}


@pytest.mark.parametrize("kind", [None, "np", "pt"])
def test_windows_beside_transformers(tokenizer, theirs, kind):
    for stride, padding in itertools.product((0, 5), ("max_length", True)):
        options = {"stride": stride, "padding": padding, "return_tensors": kind, "return_length": True}
        got, want = windows(tokenizer, **options), windows(theirs, **options)
        assert list(got) == list(want)
        assert as_dict(got) == as_dict(want)
        assert {key: type(got[key]) for key in got} == {key: type(want[key]) for key in want}


@pytest.mark.parametrize("truncation", ["longest_first", "only_first", "only_second"])
def test_no_stride_makes_the_library_panic(tokenizer, capfd, truncation):
    """Every length of two texts: rows that go on, or an error of ours before the library prints one."""
    refused = 0
    for first, second, stride in itertools.product((0, 1, 4, 5, 9), (0, 2, 6, 7), (0, 1, 2, 4, 6)):
        options = {"truncation": truncation, "max_length": 9, "stride": stride, "return_overflowing_tokens": True}
        try:
            batch = tokenizer("a " * first, "b " * second, **options)
            assert max(map(len, batch["input_ids"])) <= 9
        except ValueError as error:
            refused += "stride must be less than" in str(error)
    assert refused
    assert capfd.readouterr().err == ""


def test_lengths_beside_transformers(tokenizer, theirs):
    for text in (QUESTION, [QUESTION, CONTEXT]):
        assert as_dict(tokenizer(text, return_length=True)) == as_dict(theirs(text, return_length=True))


# ---- words


def test_words_beside_transformers(tokenizer, theirs):
    texts = [WORDS, [], ["one"]]
    calls = [(WORDS,), (WORDS, ["two", "words"]), (texts,), (texts, texts[::-1]), ([(WORDS, ["two"])],), ([],)]
    for call in calls:
        got, want = tokenizer(*call, is_split_into_words=True), theirs(*call, is_split_into_words=True)
        assert as_dict(got) == as_dict(want), call
        assert got.word_ids() == want.word_ids()


def test_a_word_ends_where_the_caller_says(tokenizer):
    batch = tokenizer([tuple(WORDS)], is_split_into_words=True)
    assert [WORDS[i] for i in dict.fromkeys(batch.word_ids()) if i is not None] == [word for word in WORDS if word]
    assert batch.word_to_tokens(2) == (3, 6)
    assert batch.tokens()[3:6] == ["isn", "'", "t"]
    assert batch.word_to_tokens(3) is None


@pytest.mark.parametrize(
    ("text", "pair", "message"),
    [
        ("not words", None, "text is str, expected a list of words or a list of lists of words"),
        (WORDS, "not words", "text_pair is str, expected a list of words beside a single text"),
        ([WORDS, "not words"], None, "text holds str, expected lists of words or pairs of lists of words"),
        ([[1, 2]], None, "text holds list, expected lists of words or pairs of lists of words"),
    ],
)
def test_what_is_no_list_of_words_is_named(tokenizer, text, pair, message):
    with pytest.raises(TypeError, match=f"^{message}$"):
        tokenizer(text, pair, is_split_into_words=True)


# ---- where tokens are from


def test_positions_beside_transformers(tokenizer, theirs):
    for call in ((CONTEXT,), (QUESTION, CONTEXT), ([QUESTION, CONTEXT],)):
        got, want = tokenizer(*call), theirs(*call)
        assert got.tokens() == want.tokens()
        assert got.sequence_ids() == want.sequence_ids()
        for name, i in itertools.product(POSITIONS, range(12)):
            assert getattr(got, name)(i) == getattr(want, name)(i), (name, i)
            assert getattr(got, name)(0, i) == getattr(want, name)(0, i), (name, i)
        for i, text in itertools.product(range(4), range(len(call))):
            assert got.word_to_tokens(0, i, text) == want.word_to_tokens(0, i, text)
            assert got.word_to_chars(0, i, text) == want.word_to_chars(0, i, text)
            assert got.char_to_token(0, i, text) == want.char_to_token(0, i, text)
        assert got[0].ids == want[0].ids


def test_positions_by_name(tokenizer):
    batch = tokenizer("Hello, worlds!")
    span = batch.token_to_chars(batch.char_to_token(7))
    assert (span.start, span.end) == (7, 13)
    assert batch.word_to_tokens(2).start == 3
    assert batch.token_to_chars(0) is None
    assert batch.char_to_token(6) is None
    with pytest.raises(IndexError, match="the position asked about is -1, expected 0 or more"):
        batch.char_to_token(-1)


def test_a_pickle_of_a_batch(tokenizer):
    batch = tokenizer(QUESTION)
    copy = pickle.loads(pickle.dumps(batch))
    assert copy == batch
    assert copy.word_ids() == batch.word_ids()


# ---- padding afterwards


@pytest.mark.parametrize("kind", [None, "np", "pt"])
def test_padding_afterwards_beside_transformers(tokenizer, theirs, kind):
    rows = [tokenizer(text, return_special_tokens_mask=True) for text in (QUESTION, CONTEXT, "")]
    columns = {key: [row[key] for row in rows] for key in rows[0]}
    options = [
        {},
        {"padding": "max_length", "max_length": 300},
        {"pad_to_multiple_of": 16},
        {"padding_side": "left"},
    ]
    for chosen in options:
        for given in (lambda: [dict(row) for row in rows], lambda: dict(columns), lambda: dict(rows[0])):
            got, want = (t.pad(given(), return_tensors=kind, **chosen) for t in (tokenizer, theirs))
            assert as_dict(got) == as_dict(want)
            assert {key: type(got[key]) for key in got} == {key: type(want[key]) for key in want}


def test_padding_afterwards_is_padding_at_once(tokenizer):
    texts = [QUESTION, CONTEXT, ""]
    for side in ("right", "left"):
        got = tokenizer.pad([tokenizer(text) for text in texts], padding_side=side)
        assert got == tokenizer(texts, padding=True, padding_side=side)


def test_arrays_are_padded_to_arrays(tokenizer):
    rows = [{"input_ids": np.array([7, 8, 9]), "score": 0.5}, {"input_ids": np.array([7]), "score": 1.5}]
    got = tokenizer.pad(rows)
    assert got.input_ids.dtype == np.int64
    assert got.input_ids.tolist() == [[7, 8, 9], [7, 0, 0]]
    assert got.attention_mask.tolist() == [[1, 1, 1], [1, 0, 0]]
    assert got.score.tolist() == [0.5, 1.5]
    one = tokenizer.pad({"input_ids": [7, 8], "score": 0.5}, padding="max_length", max_length=4)
    assert one == {"input_ids": [7, 8, 0, 0], "score": 0.5, "attention_mask": [1, 1, 0, 0]}


def test_what_cannot_be_padded_is_named(tokenizer):
    with pytest.raises(ValueError, match="encoded_inputs lacks input_ids"):
        tokenizer.pad({"ids": [1, 2]})
    with pytest.raises(ValueError, match="attention_mask has rows of other lengths than input_ids"):
        tokenizer.pad({"input_ids": [[1, 2], [3]], "attention_mask": [[1], [1]]})
    with pytest.raises(ValueError, match="these ids were padded by themselves"):
        tokenizer.pad({"input_ids": [[1, 2], [3]]}).tokens()
