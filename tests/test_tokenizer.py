"""Tokenizers: Transformers' ids and options, on the real MiniLM files and on a word list alone."""

import copy
import itertools
import json
import pickle
import re
import shutil
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from checkpoints import VOCABULARY, minilm, write_bert
from tfcore import AutoTokenizer

GOLDEN = Path(__file__).parent / "golden" / "minilm.npz"
OVERFLOW = {"return_overflowing_tokens": True}
TEXTS = [
    "Understanding Transformers is fascinating!",
    "",
    "Naïve café — 東京 🙂 [MASK] [SEP] it's isn't",
    "word " * 60,
    "short one",
]


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(minilm())


@pytest.fixture
def folder(tmp_path):
    """A copy of MiniLM's tokenizer files, to be changed."""
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
        shutil.copy(minilm() / name, tmp_path)
    return tmp_path


# ---- Transformers' ids


def test_recorded_ids(tokenizer):
    golden = np.load(GOLDEN)
    first, second = golden["first"].tolist(), golden["second"].tolist()
    for row, (text, pair) in enumerate(zip(first, second, strict=True)):
        got = tokenizer(text, pair or None)
        n = int(golden["attention_mask"][row].sum())
        assert got["input_ids"] == golden["input_ids"][row, :n].tolist()
        assert got["token_type_ids"] == golden["token_type_ids"][row, :n].tolist()
        assert got["attention_mask"] == [1] * n


def same(got, want):
    if isinstance(got, Exception) or isinstance(want, Exception):
        return isinstance(got, Exception) and isinstance(want, Exception)
    if list(got) != list(want):
        return False
    return all(type(got[key]) is type(want[key]) and as_lists(got[key]) == as_lists(want[key]) for key in want)


def as_lists(value):
    return value if isinstance(value, list) else value.tolist()


def outcome(function, *arguments, **options):
    try:
        return function(*arguments, **options)
    except Exception as error:
        return error


@pytest.mark.filterwarnings("ignore")
def test_every_option_beside_transformers(tokenizer):
    transformers = pytest.importorskip("transformers")
    theirs = transformers.AutoTokenizer.from_pretrained(minilm())
    pairs = list(zip(TEXTS, TEXTS[::-1], strict=True))
    calls = [
        (TEXTS,),
        (TEXTS[0],),
        (TEXTS[0], TEXTS[4]),
        (TEXTS, TEXTS[::-1]),
        (pairs,),
        (TEXTS[0], ""),
        (TEXTS[:1], [""]),
    ]
    options = {
        "padding": [False, True, "max_length"],
        "truncation": [None, False, True, "only_first", "only_second", "longest_first"],
        "max_length": [None, 16, 300],
        "padding_side": [None, "left"],
        "pad_to_multiple_of": [None, 4],
        "return_tensors": [None, "pt"],
    }
    for values in itertools.product(*options.values()):
        chosen = dict(zip(options, values, strict=True))
        for call in calls:
            got, want = outcome(tokenizer, *call, **chosen), outcome(theirs, *call, **chosen)
            assert same(got, want), (call, chosen, got, want)


@pytest.mark.filterwarnings("ignore")
def test_the_rest_beside_transformers(tokenizer):
    transformers = pytest.importorskip("transformers")
    theirs = transformers.AutoTokenizer.from_pretrained(minilm())
    everything = dict.fromkeys(("return_special_tokens_mask", "return_offsets_mapping"), True)
    assert same(tokenizer(TEXTS[2], TEXTS[0], **everything), theirs(TEXTS[2], TEXTS[0], **everything))
    for name in ("vocab_size", "model_max_length", "padding_side", "all_special_tokens", "all_special_ids"):
        assert getattr(tokenizer, name) == getattr(theirs, name), name
    for name in ("pad", "unk", "cls", "sep", "mask", "bos", "eos"):
        assert getattr(tokenizer, f"{name}_token") == getattr(theirs, f"{name}_token"), name
        assert getattr(tokenizer, f"{name}_token_id") == getattr(theirs, f"{name}_token_id"), name
    assert len(tokenizer) == len(theirs)
    assert tokenizer.vocab == theirs.vocab
    sentence = "Héllo, World"
    words = [t.backend_tokenizer.pre_tokenizer.pre_tokenize_str(sentence) for t in (tokenizer, theirs)]
    assert words[0] == words[1]
    ids = tokenizer(TEXTS)["input_ids"]
    for skip in (False, True):
        assert tokenizer.batch_decode(ids, skip_special_tokens=skip) == theirs.batch_decode(
            ids, skip_special_tokens=skip
        )
    assert tokenizer(TEXTS[2]).tokens() == theirs(TEXTS[2]).tokens()
    assert tokenizer(TEXTS[2]).word_ids() == theirs(TEXTS[2]).word_ids()
    assert tokenizer.tokenize(TEXTS[0]) == theirs.tokenize(TEXTS[0])
    assert tokenizer.convert_tokens_to_ids(["hello", "nosuchtoken"]) == theirs.convert_tokens_to_ids(
        ["hello", "nosuchtoken"]
    )


@pytest.mark.filterwarnings("ignore")
def test_a_word_list_beside_transformers(tmp_path):
    transformers = pytest.importorskip("transformers")
    shutil.copy(minilm() / "vocab.txt", tmp_path)
    shutil.copy(minilm() / "config.json", tmp_path)
    ours, theirs = AutoTokenizer.from_pretrained(tmp_path), transformers.AutoTokenizer.from_pretrained(tmp_path)
    for text in TEXTS:
        assert same(ours(text, "and another"), theirs(text, "and another"))
    assert ours.decode(ours(TEXTS[0])["input_ids"]) == theirs.decode(theirs(TEXTS[0])["input_ids"])


# ---- what a call returns


def test_one_text_a_batch_and_pairs(tokenizer):
    one = tokenizer("hello world")
    assert one == {
        "input_ids": [101, 7592, 2088, 102],
        "token_type_ids": [0, 0, 0, 0],
        "attention_mask": [1, 1, 1, 1],
    }
    assert one.input_ids is one["input_ids"]
    assert tokenizer(["hello world"])["input_ids"] == [one["input_ids"]]
    pair = tokenizer("hello", "world")
    assert pair["input_ids"] == [101, 7592, 102, 2088, 102]
    assert pair["token_type_ids"] == [0, 0, 0, 1, 1]
    assert tokenizer([("hello", "world")])["input_ids"] == [pair["input_ids"]]
    assert tokenizer(["hello"], ["world"])["token_type_ids"] == [pair["token_type_ids"]]
    assert pair.sequence_ids() == [None, 0, None, 1, None]
    assert tokenizer.encode("hello", add_special_tokens=False) == [7592]
    assert {**one} == one
    with pytest.raises(AttributeError, match="no 'labels' among input_ids"):
        one.labels  # noqa: B018


def test_tensors(tokenizer):
    got = tokenizer(TEXTS, padding=True, return_tensors="np")
    assert got.input_ids.shape == got.attention_mask.shape == (5, 62)
    assert got.input_ids.dtype == np.int64
    assert got.attention_mask.sum(1).tolist() == [len(row) for row in tokenizer(TEXTS)["input_ids"]]
    assert tokenizer("hello", return_tensors="np").input_ids.shape == (1, 3)
    assert tokenizer("hello", return_tensors="np", return_offsets_mapping=True).offset_mapping.tolist() == [
        [[0, 0], [0, 5], [0, 0]]
    ]


def test_what_tokenizer_json_says_of_padding_is_ignored(tokenizer):
    saved = json.loads((minilm() / "tokenizer.json").read_text())
    assert saved["padding"] is not None, "MiniLM's file asks for 128"
    assert saved["truncation"] is not None
    assert len(tokenizer("hello")["input_ids"]) == 3
    assert len(tokenizer("word " * 300)["input_ids"]) == 302


def test_no_texts(tokenizer):
    assert tokenizer([])["input_ids"] == []
    assert tokenizer([], return_tensors="np").input_ids.shape == (0, 0)


def test_padding_and_truncation(tokenizer):
    assert tokenizer("hello", padding="max_length", max_length=5)["attention_mask"] == [1, 1, 1, 0, 0]
    assert tokenizer("hello", padding="max_length", max_length=5, padding_side="left")["input_ids"][:2] == [0, 0]
    assert len(tokenizer("hello", padding=True, pad_to_multiple_of=8)["input_ids"]) == 8
    assert tokenizer("hello world", max_length=3)["input_ids"] == [101, 7592, 102]
    assert len(tokenizer("word " * 600, truncation=True)["input_ids"]) == 512
    cut = tokenizer("one two three", "four five", truncation="only_first", max_length=6)
    assert cut.tokens() == ["[CLS]", "one", "[SEP]", "four", "five", "[SEP]"]
    after = tokenizer("word " * 600)
    assert len(after["input_ids"]) == 602, "a call leaves nothing behind"


def test_the_side_of_truncation(folder):
    tokenizer = AutoTokenizer.from_pretrained(folder, truncation_side="left", padding_side="left")
    assert tokenizer("one two three", max_length=3, truncation=True).tokens() == ["[CLS]", "three", "[SEP]"]
    assert tokenizer(["one", "one two"], padding=True)["attention_mask"][0] == [0, 1, 1, 1]


def test_decode(tokenizer):
    ids = tokenizer("Hello, world! It's fine.")["input_ids"]
    assert tokenizer.decode(ids) == "[CLS] hello, world! it ' s fine. [SEP]"
    for same_ids in (ids, tuple(ids), np.array(ids), list(np.array(ids))):
        assert tokenizer.decode(same_ids, skip_special_tokens=True) == "hello, world! it ' s fine."
    assert tokenizer.decode(7592) == "hello"
    assert tokenizer.decode(np.array([ids, ids]), skip_special_tokens=True) == ["hello, world! it ' s fine."] * 2
    assert tokenizer.batch_decode([[7592], [2088, 2088]]) == ["hello", "world world"]
    assert tokenizer.convert_ids_to_tokens([101, 7592]) == ["[CLS]", "hello"]
    assert tokenizer.convert_ids_to_tokens([101, 7592], skip_special_tokens=True) == ["hello"]
    assert tokenizer.convert_ids_to_tokens(7592) == "hello"
    assert tokenizer.convert_tokens_to_ids("hello") == 7592
    assert tokenizer.convert_tokens_to_ids("nosuchtoken") == tokenizer.unk_token_id == 100
    assert tokenizer.convert_ids_to_tokens(np.int64(7592)) == "hello"
    for bad in (-100, 2**40):
        with pytest.raises(ValueError, match=f"token_ids holds {bad}, expected ids from 0"):
            tokenizer.decode([101, bad])
    for bad in (None, "hello", [None], [1.5], {101}, [True]):
        with pytest.raises(TypeError, match=r"token_ids holds .*, expected integers"):
            tokenizer.decode(bad)
    with pytest.raises(ValueError, match="ids holds -1, expected ids from 0"):
        tokenizer.convert_ids_to_tokens(-1)


def test_many_threads_with_settings_of_their_own(tokenizer):
    def call(n):
        got = tokenizer("word " * 50, truncation=True, max_length=n, padding="max_length")
        return len(tokenizer("word " * 50)["input_ids"]), len(got["input_ids"])

    lengths = [3 + n % 90 for n in range(400)]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(call, lengths)) == [(52, n) for n in lengths]


def test_a_pickle(tokenizer):
    again = pickle.loads(pickle.dumps(tokenizer))
    assert again(TEXTS, padding=True) == tokenizer(TEXTS, padding=True)
    assert again.model_max_length == 512


# ---- wrong arguments


def test_numpy_integers_are_integers(tokenizer):
    options = {"padding": "max_length", "max_length": 8, "stride": 1, "pad_to_multiple_of": 4, **OVERFLOW}
    of_numpy = {key: np.int64(value) if type(value) is int else value for key, value in options.items()}
    assert tokenizer("a " * 9, **of_numpy) == tokenizer("a " * 9, **options)


@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        ((3,), {}, TypeError, "text is int, expected a string or a list"),
        ((None,), {}, TypeError, "text is NoneType"),
        ((["a", 3],), {}, TypeError, "text holds int, expected strings or pairs"),
        (([("a", "b", "c")],), {}, TypeError, "text holds tuple"),
        (("a", ["b"]), {}, TypeError, "text_pair is list, expected a string"),
        ((["a"], "b"), {}, TypeError, "text_pair is str, expected a string or a list"),
        ((["a", "b"], ["c"]), {}, ValueError, "text_pair has 1 texts, expected 2"),
        ((["a", "b c"],), {"return_tensors": "np"}, ValueError, "3 to 4 tokens.*padding=True"),
        (("a",), {"return_tensors": "tf"}, ValueError, "return_tensors is 'tf', expected 'np', 'pt' or None"),
        (("a",), {"padding": "longer"}, ValueError, "padding is 'longer', expected one of"),
        (("a",), {"padding": []}, TypeError, r"padding is \[\], expected one of"),
        (("a",), {"truncation": "first"}, ValueError, "truncation is 'first', expected one of"),
        (("a",), {"padding_side": "middle"}, ValueError, "padding_side is 'middle'"),
        (("a",), {"max_length": 0}, ValueError, "max_length is 0, expected a positive integer"),
        (("a",), {"max_length": 2.5}, TypeError, "max_length is 2.5, expected a positive integer"),
        (("a",), {"max_length": "8"}, TypeError, "max_length is '8', expected a positive integer"),
        (("a",), {"max_length": True}, TypeError, "max_length is True, expected a positive integer"),
        (("a",), {"pad_to_multiple_of": 8.0}, TypeError, "pad_to_multiple_of is 8.0"),
        (("a",), {"stride": "1"}, TypeError, "stride is '1', expected a non-negative integer"),
        (("a",), {"padding_side": 3}, TypeError, "padding_side is 3, expected one of"),
        (("a",), {"pad_to_multiple_of": -8}, ValueError, "pad_to_multiple_of is -8"),
        (("a",), {"max_length": 1}, ValueError, "max_length is 1, expected at least 2: the special tokens"),
        (("a", "b"), {"max_length": 2}, ValueError, "max_length is 2, expected at least 3"),
        (("a", "b c d e f"), {"truncation": "only_first", "max_length": 5}, ValueError, "max_length=5.*too short"),
        (
            ("a",),
            {"truncation": True, "padding": True, "max_length": 9, "pad_to_multiple_of": 4},
            ValueError,
            "multiple of pad_to_multiple_of, 4",
        ),
        (("half \ud800",), {}, ValueError, "surrogate"),
        (("a",), {"stride": -1}, ValueError, "stride is -1, expected a non-negative integer"),
        (
            ("a " * 9,),
            {"max_length": 8, "stride": 6, **OVERFLOW},
            ValueError,
            "stride=6: stride must be less than the 6 tok",
        ),
        (
            ("a b", "c " * 9),
            {"max_length": 8, "stride": 3, **OVERFLOW},
            ValueError,
            "stride=3: stride must be less than the 3",
        ),
        (("a",), {"max_length": 8, "stride": 60, **OVERFLOW}, ValueError, "stride.*60"),
        (
            ("a",),
            {"padding": "max_length", "max_length": 10**9},
            ValueError,
            "max_length is 1000000000, expected at most",
        ),
    ],
)
def test_wrong_arguments_are_named(tokenizer, arguments, options, error, message):
    with pytest.raises(error, match=message):
        tokenizer(*arguments, **options)


@pytest.mark.parametrize(("side", "error"), [(3, TypeError), ("middle", ValueError)])
def test_a_wrong_side_to_cut_is_named(tokenizer, side, error):
    other = copy.copy(tokenizer)
    other.truncation_side = side
    with pytest.raises(error, match=f"^truncation_side is {side!r}, expected one of 'right', 'left'"):
        other("a b c", max_length=4)
    assert len(tokenizer("a b c", max_length=4)["input_ids"]) == 4


# ---- files as they are found


def test_a_word_list_alone(tmp_path):
    write_bert(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    assert tokenizer.vocab_size == len(VOCABULARY)
    got = tokenizer("The TWO cu?", "é", return_tensors="np")
    assert tokenizer.convert_ids_to_tokens(got.input_ids[0]) == [
        *("[CLS]", "the", "two", "c", "##u", "?", "[SEP]", "e", "[SEP]")
    ]
    assert got.token_type_ids.tolist() == [[0] * 7 + [1] * 2]
    assert tokenizer.decode(got.input_ids[0], skip_special_tokens=True) == "the two cu? e"
    assert tokenizer("[MASK]")["input_ids"] == [2, tokenizer.mask_token_id, 3]


def test_a_cased_word_list(tmp_path):
    write_bert(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": False}))
    assert AutoTokenizer.from_pretrained(tmp_path)("The").tokens() == ["[CLS]", "[UNK]", "[SEP]"]


def test_tokenizer_config_rules_over_tokenizer_json(folder):
    config = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps(config | {"do_lower_case": False}))
    assert AutoTokenizer.from_pretrained(folder).tokenize("HI") != AutoTokenizer.from_pretrained(minilm()).tokenize(
        "HI"
    )


def test_tokenizer_json_alone(folder, tokenizer):
    (folder / "tokenizer_config.json").unlink()
    (folder / "special_tokens_map.json").unlink()
    alone = AutoTokenizer.from_pretrained(folder)
    assert alone(TEXTS, padding=True) == tokenizer(TEXTS, padding=True)
    assert alone.pad_token_id == 0
    assert alone.model_max_length > 10**20
    with pytest.warns(UserWarning, match="states no model_max_length"):
        assert len(alone("word " * 600, truncation=True)["input_ids"]) == 602
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(alone("word " * 600, truncation=True, max_length=9)["input_ids"]) == 9


def test_special_tokens_as_objects(folder):
    config = {"pad_token": {"content": "[PAD]"}, "additional_special_tokens": ["hello"], "model_max_length": 8}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert tokenizer.pad_token == "[PAD]"
    assert "hello" in tokenizer.all_special_tokens
    assert tokenizer.decode(tokenizer("hello world")["input_ids"], skip_special_tokens=True) == "world"
    assert len(tokenizer("word " * 20, truncation=True)["input_ids"]) == 8


def test_a_tokenizer_without_padding_token(folder):
    content = json.loads((folder / "tokenizer.json").read_text())
    content["added_tokens"] = []
    content["model"] = {"type": "WordLevel", "vocab": {"a": 0, "b": 1, "<end>": 2}, "unk_token": "a"}
    content["post_processor"] = None
    (folder / "tokenizer.json").write_text(json.dumps(content))
    (folder / "tokenizer_config.json").write_text("{}")
    (folder / "special_tokens_map.json").unlink()
    tokenizer = AutoTokenizer.from_pretrained(folder, eos_token="<end>")
    with pytest.raises(ValueError, match=r"set tokenizer\.pad_token = tokenizer\.eos_token"):
        tokenizer(["a", "a b"], padding=True)
    tokenizer.pad_token = tokenizer.eos_token
    assert tokenizer(["a", "a b"], padding=True)["input_ids"] == [[0, 2], [0, 1]]


def test_a_special_token_by_its_id(folder):
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.pad_token_id = tokenizer.sep_token_id
    assert tokenizer.pad_token == "[SEP]"
    assert tokenizer(["a", "b c"], padding=True)["input_ids"][0][-1] == tokenizer.sep_token_id
    for wrong in (99999, -1, 1 << 40, "[SEP]", 1.0, False):
        error = ValueError if type(wrong) is int else TypeError
        with pytest.raises(error, match=f"pad_token_id is {re.escape(repr(wrong))}, expected a token's id, or None"):
            tokenizer.pad_token_id = wrong
    tokenizer.pad_token_id = np.int64(0)
    assert tokenizer.pad_token == "[PAD]"
    tokenizer.pad_token_id = None
    assert tokenizer.pad_token is None
    assert "pad_token" not in tokenizer.special_tokens_map


@pytest.mark.filterwarnings("ignore")
def test_a_word_that_pads_stays_a_word():
    """As in Transformers; `add_special_tokens` is what makes it special."""

    def words(tokenizer):
        tokenizer.pad_token = "the"
        ids = tokenizer("theatre the!")["input_ids"]
        return ids, tokenizer.decode(ids, skip_special_tokens=True), tokenizer(["a b", "a"], padding=True)["input_ids"]

    ours = words(AutoTokenizer.from_pretrained(minilm()))
    assert ours[0] == [101, 3004, 1996, 999, 102]
    assert ours[1] == "theatre the!"
    assert ours[2][1][-1] == 1996
    transformers = pytest.importorskip("transformers")
    assert ours == words(transformers.AutoTokenizer.from_pretrained(minilm()))


def test_special_tokens_that_the_vocabulary_lacks(folder):
    tokenizer = AutoTokenizer.from_pretrained(folder)
    size = len(tokenizer)
    assert tokenizer.add_special_tokens({"pad_token": "<fill>", "sep_token": "[SEP]"}) == 1
    assert tokenizer.pad_token_id == size == len(tokenizer) - 1
    assert tokenizer(["a", "b c"], padding=True)["input_ids"][0][-1] == size
    assert tokenizer.add_special_tokens({"additional_special_tokens": ["<one>", "<two>"]}) == 2
    assert tokenizer.tokenize("a<one>b") == ["a", "<one>", "b"]
    assert tokenizer.decode(tokenizer("a<one>b")["input_ids"], skip_special_tokens=True) == "a b"
    assert "<two>" in tokenizer.all_special_tokens
    for name, wrong in (("additional_special_tokens", "<a>"), ("pad_token", 3)):
        with pytest.raises(TypeError, match=f"{name} is {type(wrong).__name__}, expected a "):
            tokenizer.add_special_tokens({"bos_token": "<not added>", name: wrong})
    assert tokenizer.bos_token is None
    assert "<not added>" not in tokenizer.vocab
    added = pytest.importorskip("tokenizers").AddedToken("<left>", lstrip=True)
    tokenizer.mask_token = added
    assert tokenizer.mask_token == "<left>"
    assert tokenizer.mask_token_id in tokenizer("a  <left>b")["input_ids"]
    with pytest.raises(ValueError, match="special_tokens_dict names 'no_token', expected bos_token"):
        tokenizer.add_special_tokens({"no_token": "x"})


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("tokenizer.json", "{", r"tokenizer\.json: not a tokenizer"),
        ("tokenizer.json", '{"version": "1.0"}', r"tokenizer\.json: not a tokenizer"),
        ("tokenizer_config.json", "[]", r"tokenizer_config\.json: holds \[\], expected an object"),
        ("tokenizer_config.json", '{"model_max_length": "512"}', "field 'model_max_length' is \"512\""),
        (
            "tokenizer_config.json",
            '{"padding_side": "up"}',
            "field 'padding_side' is \"up\", expected one of right, left",
        ),
        (
            "tokenizer_config.json",
            '{"do_lower_case": "yes"}',
            "field 'do_lower_case' is \"yes\", expected true or false",
        ),
        ("tokenizer_config.json", '{"model_max_length": 1e300}', "field 'model_max_length' is 1e\\+300, expected a"),
        ("special_tokens_map.json", '{"pad_token": 3}', "field 'pad_token' holds 3, expected a string"),
    ],
)
def test_a_broken_file_is_named(folder, file, content, message):
    (folder / file).write_text(content)
    with pytest.raises(ValueError, match=message):
        AutoTokenizer.from_pretrained(folder)


def test_missing_files_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"holds no tokenizer\.json and no vocab\.txt"):
        AutoTokenizer.from_pretrained(tmp_path)
    (tmp_path / "vocab.txt").write_text("a\nb\n")
    with pytest.raises(ValueError, match=r"vocab\.txt: lacks the special tokens \[UNK\]"):
        AutoTokenizer.from_pretrained(tmp_path)


def test_unknown_settings_are_named(folder):
    with pytest.raises(TypeError, match="unknown setting 'pading_side', expected one of"):
        AutoTokenizer.from_pretrained(folder, pading_side="left")
    assert AutoTokenizer.from_pretrained(folder, use_fast=True, model_max_length=9).model_max_length == 9


def test_torch_is_asked_for_only_when_wanted(tokenizer, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    assert tokenizer("hello", return_tensors="np").input_ids.shape == (1, 3)
    with pytest.raises(ModuleNotFoundError, match=r'return_tensors="pt" needs PyTorch'):
        tokenizer("hello", return_tensors="pt")
