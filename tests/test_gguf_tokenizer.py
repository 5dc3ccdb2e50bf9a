"""Tokenizers out of GGUF files: recorded ids of a real one, small ones by hand, SentencePiece and Transformers live."""

from __future__ import annotations

import io
import json
import re
import warnings
from pathlib import Path

import pytest
from gguf_files import smollm2, write_gguf
from tfcore import AutoTokenizer
from tfcore.models.config import Config
from tfcore.models.tokenizer import Tokenizer
from tfcore.models.tokenizer_files import open_tokenizer

pytest.importorskip("tokenizers")

GOLDEN = json.loads((Path(__file__).parent / "golden" / "smollm2_tokens.json").read_text(encoding="utf-8"))
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, BYTE = 1, 2, 3, 4, 6

WORDS = ["a", "b", "c", "ab", "abc", "\u0120", "\u010a", "1", "2", "\u0120\u0120", "<end>", "<think>", "\u0120ab"]
BYTE_LEVEL = {
    "general.architecture": "llama",
    "llama.context_length": 64,
    "tokenizer.ggml.model": "gpt2",
    "tokenizer.ggml.pre": "gpt-2",
    "tokenizer.ggml.tokens": WORDS,
    "tokenizer.ggml.token_type": [NORMAL] * 10 + [CONTROL, USER_DEFINED, NORMAL],
    "tokenizer.ggml.merges": ["a b", "\u0120 ab", "\u0120 \u0120", "ab c"],
    "tokenizer.ggml.eos_token_id": 10,
    "tokenizer.ggml.bos_token_id": 10,
}

SPACE = "\u2581"
PIECES = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
PIECES += [SPACE, "h", "e", "l", "o", "he", "lo", "hel", f"{SPACE}h", "hello", f"{SPACE}hello", "<think>", "\n\n"]
SENTENCE_PIECE = {
    "general.architecture": "llama",
    "tokenizer.ggml.model": "llama",
    "tokenizer.ggml.tokens": PIECES,
    "tokenizer.ggml.token_type": [UNKNOWN, CONTROL, CONTROL, *[BYTE] * 256, *[NORMAL] * 11, USER_DEFINED, USER_DEFINED],
    "tokenizer.ggml.scores": [0.0] * 259 + [-9.0, -9.0, -9.0, -9.0, -9.0, -1.0, -3.0, -2.0, -4.0, -5.0, -6.0, 0.0, 0.0],
    "tokenizer.ggml.bos_token_id": 1,
    "tokenizer.ggml.eos_token_id": 2,
    "tokenizer.ggml.unknown_token_id": 0,
}


def read(folder, metadata, changed=(), without=()):
    keys = {name: value for name, value in {**metadata, **dict(changed)}.items() if name not in without}
    return open_tokenizer(write_gguf(folder / "model.gguf", keys, {}), {})


def tokens(backend, text: str, **settings) -> list[str]:
    return backend.encode(text, **settings).tokens


def transformers():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pytest.importorskip("torch")
        pytest.importorskip("gguf")
        return pytest.importorskip("transformers")


# ---- a real file


@pytest.fixture(scope="module")
def real():
    return open_tokenizer(smollm2(), {})


@pytest.mark.parametrize(
    "recorded", GOLDEN, ids=lambda recorded: recorded["text"][:20].encode("unicode_escape").decode()
)
def test_recorded_ids(real, recorded):
    backend, _ = real
    ids = backend.encode(recorded["text"]).ids
    assert ids == recorded["ids"]
    assert backend.decode(ids, skip_special_tokens=False) == recorded["text"]


def test_fields_of_a_real_file(real):
    _, fields = real
    assert fields["chat_template"].startswith("{% for message in messages %}")
    assert {name: value for name, value in fields.items() if name != "chat_template"} == {
        "bos_token": "<|im_start|>",
        "eos_token": "<|im_end|>",
        "unk_token": "<|endoftext|>",
        "pad_token": "<|im_end|>",
        "add_bos_token": False,
        "add_eos_token": False,
        "clean_up_tokenization_spaces": False,
        "model_input_names": ["input_ids", "attention_mask"],
        "model_max_length": 8192,
    }


def test_a_real_file_makes_a_tokenizer_of_ours(real):
    backend, fields = real
    tokenizer = Tokenizer(backend, Config(fields, "model.gguf"))
    batch = tokenizer(["Hello", "Hello, world!"], padding=True, return_tensors="np")
    assert list(batch) == ["input_ids", "attention_mask"]
    assert batch.attention_mask.tolist() == [[1, 0, 0, 0], [1, 1, 1, 1]]
    assert tokenizer.decode(batch.input_ids[0], skip_special_tokens=True) == "Hello"


def test_the_callers_settings_win_over_the_files(real):
    ids = real[0].encode("a").ids
    for settings, want in (({"add_bos_token": True}, [1, *ids]), ({"add_eos_token": True}, [*ids, 2])):
        tokenizer = AutoTokenizer.from_pretrained(smollm2().parent, gguf_file=smollm2().name, **settings)
        assert tokenizer("a").input_ids == want


@pytest.mark.filterwarnings("ignore")
def test_transformers_gives_the_same_ids(real):
    """On the same file; where several spaces come before a digit it takes another split than the file names."""
    path = smollm2()
    theirs = transformers().AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    texts = [recorded["text"] for recorded in GOLDEN]
    alike = [text for text in texts if not re.search(r"\s\s\d|\s[^\w\s]*[½²①Ⅻ]", text)]
    assert len(alike) >= len(texts) - 5
    for text in alike:
        ids = real[0].encode(text).ids
        assert ids == theirs(text)["input_ids"], text
        assert real[0].decode(ids, skip_special_tokens=False) == theirs.decode(ids)
    assert real[1]["chat_template"] == theirs.chat_template


# ---- byte-level BPE


def test_merges_in_order(tmp_path):
    backend, _ = read(tmp_path, BYTE_LEVEL)
    assert tokens(backend, "abc ab  abc") == ["abc", "\u0120ab", "\u0120", "\u0120ab", "c"]
    assert backend.decode(backend.encode("abc ab\nc").ids) == "abc ab\nc"


def test_special_tokens_are_found_whole(tmp_path):
    backend, _ = read(tmp_path, BYTE_LEVEL)
    encoding = backend.encode("a<end>b<think>c")
    assert encoding.tokens == ["a", "<end>", "b", "<think>", "c"]
    assert encoding.ids == [0, 10, 1, 11, 2]
    assert backend.decode(encoding.ids) == "ab<think>c"
    assert backend.decode(encoding.ids, skip_special_tokens=False) == "a<end>b<think>c"
    assert backend.get_vocab_size() == len(WORDS)


TEXT = "I'LL pay 12345,\n  okGo//\n"
GPT2 = ["I", "'", "LL", " pay", " 12345", ",", "\n ", " okGo", "//", "\n"]
SINGLE = ["1", "2", "3", "4", "5"]
SPLITS = {
    "gpt-2": GPT2,
    "default": GPT2,
    "smollm": [*GPT2[:4], " ", *SINGLE, *GPT2[5:]],
    "starcoder": [*GPT2[:4], " ", *SINGLE, *GPT2[5:]],
    "llama-bpe": ["I", "'LL", " pay", " ", "123", "45", ",\n", " ", " okGo", "//\n"],
    "dbrx": ["I", "'LL", " pay", " ", "123", "45", ",\n", " ", " okGo", "//\n"],
    "qwen2": ["I", "'LL", " pay", " ", *SINGLE, ",\n", " ", " okGo", "//\n"],
    "tekken": ["I", "'LL", " pay", " ", *SINGLE, ",\n", " ", " ok", "Go", "//\n"],
    "gpt-4o": ["I'LL", " pay", " ", "123", "45", ",\n", " ", " ok", "Go", "//\n"],
}


@pytest.mark.parametrize("name", SPLITS)
def test_splits_by_name(tmp_path, name):
    backend, _ = read(tmp_path, BYTE_LEVEL, {"tokenizer.ggml.pre": name})
    pieces = [piece for piece, _ in backend.pre_tokenizer.pre_tokenize_str(TEXT)]
    assert [piece.replace("\u0120", " ").replace("\u010a", "\n") for piece in pieces] == SPLITS[name]


def test_no_split_named_is_gpt2s(tmp_path):
    backend, _ = read(tmp_path, BYTE_LEVEL, without=["tokenizer.ggml.pre"])
    assert len(backend.pre_tokenizer.pre_tokenize_str(TEXT)) == len(GPT2)


def test_a_word_that_is_a_token_stays_whole_in_llama3(tmp_path):
    """`ab c` is no merge there."""
    changed = {"tokenizer.ggml.merges": ["a b"], "tokenizer.ggml.add_bos_token": False}
    assert tokens(read(tmp_path, BYTE_LEVEL, changed)[0], "abc") == ["ab", "c"]
    changed["tokenizer.ggml.pre"] = "llama-bpe"
    assert tokens(read(tmp_path, BYTE_LEVEL, changed)[0], "abc") == ["abc"]


def test_qwen2_composes_characters(tmp_path):
    backend, _ = read(tmp_path, BYTE_LEVEL, {"tokenizer.ggml.pre": "qwen2"})
    assert backend.normalizer.normalize_str("e\u0301") == "\u00e9"


@pytest.mark.parametrize(
    ("changed", "single", "pair"),
    [
        ({}, "ab", "ab c"),
        ({"tokenizer.ggml.add_bos_token": True}, "<end> ab", "<end> ab <end> c"),
        ({"tokenizer.ggml.add_eos_token": True}, "ab <end>", "ab <end> c <end>"),
        (
            {"tokenizer.ggml.add_bos_token": True, "tokenizer.ggml.add_eos_token": True},
            "<end> ab <end>",
            "<end> ab <end> <end> c <end>",
        ),
        ({"tokenizer.ggml.pre": "llama-bpe"}, "<end> ab", "<end> ab <end> c"),
        ({"tokenizer.ggml.pre": "llama-bpe", "tokenizer.ggml.add_bos_token": False}, "ab", "ab c"),
    ],
)
def test_tokens_around_texts(tmp_path, changed, single, pair):
    backend, fields = read(tmp_path, BYTE_LEVEL, changed)
    assert tokens(backend, "ab") == single.split()
    assert tokens(backend, "ab", pair="c") == pair.split()
    assert tokens(backend, "ab", add_special_tokens=False) == ["ab"]
    assert fields["add_bos_token"] is single.startswith("<end>")


def test_fields_of_a_small_file(tmp_path):
    _, fields = read(tmp_path, BYTE_LEVEL, {"tokenizer.chat_template": "{{ messages }}"})
    assert fields["chat_template"] == "{{ messages }}"
    assert (fields["bos_token"], fields["eos_token"], fields["model_max_length"]) == ("<end>", "<end>", 64)
    assert "unk_token" not in fields


# ---- SentencePiece's BPE


def test_the_best_scored_pair_comes_first(tmp_path):
    backend, _ = read(tmp_path, SENTENCE_PIECE)
    assert tokens(backend, "hel hello") == ["<s>", SPACE, "hel", f"{SPACE}hello"]
    assert tokens(backend, "o") == ["<s>", SPACE, "o"]


def test_what_is_in_no_token_becomes_bytes(tmp_path):
    backend, _ = read(tmp_path, SENTENCE_PIECE)
    assert tokens(backend, "é\n") == ["<s>", SPACE, "<0xC3>", "<0xA9>", "<0x0A>"]
    for text in ("hello é🦙", "  two\nlines "):
        assert backend.decode(backend.encode(text).ids) == text


def test_user_defined_tokens_of_a_sentence_piece_file(tmp_path):
    backend, _ = read(tmp_path, SENTENCE_PIECE, {"tokenizer.ggml.add_bos_token": False})
    assert tokens(backend, "h<think>\n\no") == [f"{SPACE}h", "<think>", "\n\n", SPACE, "o"]


def test_no_space_before_a_text(tmp_path):
    backend, _ = read(tmp_path, SENTENCE_PIECE, {"tokenizer.ggml.add_space_prefix": False})
    assert tokens(backend, "he he") == ["<s>", "he", SPACE, "he"]
    assert backend.decode(backend.encode(" he").ids) == " he"


def test_a_space_comes_before_every_text(tmp_path):
    """Also before one that begins with a space, or follows a special token, as in SentencePiece and llama.cpp."""
    backend, _ = read(tmp_path, SENTENCE_PIECE)
    assert tokens(backend, "o</s> o") == ["<s>", SPACE, "o", "</s>", SPACE, SPACE, "o"]
    assert tokens(backend, "") == ["<s>"]


def test_sentencepiece_gives_the_same_ids(tmp_path):
    """A vocabulary that the library has trained itself."""
    library = pytest.importorskip("sentencepiece")
    rng_words = [recorded["text"] for recorded in GOLDEN] + Path(__file__).read_text(encoding="utf-8").splitlines()
    model = io.BytesIO()
    library.SentencePieceTrainer.train(
        sentence_iterator=iter(rng_words),
        model_writer=model,
        vocab_size=700,
        model_type="bpe",
        byte_fallback=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        minloglevel=2,
    )
    theirs = library.SentencePieceProcessor(model_proto=model.getvalue())
    size = theirs.vocab_size()
    kinds = [
        UNKNOWN if theirs.is_unknown(i) else CONTROL if theirs.is_control(i) else BYTE if theirs.is_byte(i) else NORMAL
        for i in range(size)
    ]
    backend, _ = read(
        tmp_path,
        SENTENCE_PIECE,
        {
            "tokenizer.ggml.tokens": [theirs.id_to_piece(i) for i in range(size)],
            "tokenizer.ggml.scores": [float(theirs.get_score(i)) for i in range(size)],
            "tokenizer.ggml.token_type": kinds,
            "tokenizer.ggml.add_bos_token": False,
        },
    )
    for text in [*rng_words[:200], "an unseen text: zebra crossing 2024 🦓"]:
        if "<s>" not in text and "</s>" not in text and "<unk>" not in text and text:
            assert backend.encode(text).ids == theirs.encode(text), text


def ours_and_transformers(folder, metadata, architecture="llama"):
    """Both tokenizers of one file, which has a model's numbers too, for Transformers to read."""
    library = transformers()
    numbers = {"block_count": 1, "context_length": 64, "embedding_length": 8, "feed_forward_length": 8}
    numbers |= {"attention.head_count": 1, "attention.head_count_kv": 1, "rope.dimension_count": 8}
    changed = {f"{architecture}.{name}": value for name, value in numbers.items()}
    changed |= {"general.architecture": architecture, f"{architecture}.attention.layer_norm_rms_epsilon": 1e-5}
    backend, _ = read(folder, metadata, changed)
    return backend, library.AutoTokenizer.from_pretrained(folder, gguf_file="model.gguf")


@pytest.mark.parametrize("name", ["gpt-2", "llama-bpe", "dbrx", "qwen2", "tekken", "gpt-4o"])
@pytest.mark.filterwarnings("ignore")
def test_transformers_splits_alike(tmp_path, name):
    backend, theirs = ours_and_transformers(tmp_path, {**BYTE_LEVEL, "tokenizer.ggml.pre": name})
    for recorded in [*GOLDEN, {"text": TEXT}]:
        want = theirs.backend_tokenizer.pre_tokenizer.pre_tokenize_str(recorded["text"])
        assert backend.pre_tokenizer.pre_tokenize_str(recorded["text"]) == want


@pytest.mark.parametrize("architecture", ["llama", "phi3"])
@pytest.mark.filterwarnings("ignore")
def test_transformers_gives_the_same_ids_of_a_sentence_piece_file(tmp_path, architecture):
    backend, theirs = ours_and_transformers(tmp_path, SENTENCE_PIECE, architecture)
    anywhere = ("hello", "hel hello  o", "é🦙\n")
    for text in (*anywhere, "h<think>o</s> he", " he", "o\n\no") if architecture == "phi3" else anywhere:
        ids = backend.encode(text).ids
        assert ids == theirs(text)["input_ids"], text
        assert backend.decode(ids, skip_special_tokens=False) == theirs.decode(ids), text


# ---- metadata that is missing or wrong


@pytest.mark.parametrize(
    ("base", "changed", "message"),
    [
        (BYTE_LEVEL, {"tokenizer.ggml.model": None}, "field 'tokenizer.ggml.model' is missing"),
        (
            BYTE_LEVEL,
            {"tokenizer.ggml.model": "bert"},
            "key 'tokenizer.ggml.model' is 'bert', expected one of gpt2, llama",
        ),
        (BYTE_LEVEL, {"tokenizer.ggml.model": 3}, "field 'tokenizer.ggml.model' is 3, expected a string"),
        (
            BYTE_LEVEL,
            {"tokenizer.ggml.pre": "klingon"},
            "key 'tokenizer.ggml.pre' is 'klingon', expected one of default",
        ),
        (BYTE_LEVEL, {"tokenizer.ggml.tokens": None}, "key 'tokenizer.ggml.tokens' is missing"),
        (
            BYTE_LEVEL,
            {"tokenizer.ggml.tokens": [1, 2]},
            "key 'tokenizer.ggml.tokens' is list, expected an array of str",
        ),
        (BYTE_LEVEL, {"tokenizer.ggml.tokens": "abc"}, "key 'tokenizer.ggml.tokens' is str, expected an array of str"),
        (BYTE_LEVEL, {"tokenizer.ggml.tokens": ["a", "b", "a"]}, "key 'tokenizer.ggml.tokens' holds 'a' twice"),
        (
            BYTE_LEVEL,
            {"tokenizer.ggml.token_type": [1]},
            "'tokenizer.ggml.token_type' has 1 entries, expected 13, one for",
        ),
        (BYTE_LEVEL, {"tokenizer.ggml.merges": None}, "key 'tokenizer.ggml.merges' is missing"),
        (BYTE_LEVEL, {"tokenizer.ggml.merges": ["ab"]}, "key 'tokenizer.ggml.merges' holds 'ab', expected two tokens"),
        (BYTE_LEVEL, {"tokenizer.ggml.merges": ["a "]}, "key 'tokenizer.ggml.merges' holds 'a ', expected two tokens"),
        (BYTE_LEVEL, {"tokenizer.ggml.merges": ["a x"]}, "key 'tokenizer.ggml.merges' make no tokenizer: .*x"),
        (BYTE_LEVEL, {"tokenizer.ggml.merges": ["b c"]}, "key 'tokenizer.ggml.merges' make no tokenizer: .*bc"),
        (
            BYTE_LEVEL,
            {"tokenizer.ggml.eos_token_id": 13},
            "'tokenizer.ggml.eos_token_id' is 13, expected an integer from 0",
        ),
        (BYTE_LEVEL, {"tokenizer.ggml.eos_token_id": -1}, "'tokenizer.ggml.eos_token_id' is -1, expected an integer"),
        (
            BYTE_LEVEL,
            {"tokenizer.ggml.eos_token_id": True},
            "'tokenizer.ggml.eos_token_id' is True, expected an integer",
        ),
        (
            BYTE_LEVEL,
            {"tokenizer.ggml.add_bos_token": 1},
            "field 'tokenizer.ggml.add_bos_token' is 1, expected true or",
        ),
        (
            BYTE_LEVEL,
            {"tokenizer.ggml.add_bos_token": True, "tokenizer.ggml.bos_token_id": None},
            "'tokenizer.ggml.add_bos_token' is true, but key 'tokenizer.ggml.bos_token_id' is missing",
        ),
        (BYTE_LEVEL, {"tokenizer.chat_template": 7}, "field 'tokenizer.chat_template' is 7, expected a string"),
        (SENTENCE_PIECE, {"tokenizer.ggml.scores": None}, "key 'tokenizer.ggml.scores' is missing"),
        (SENTENCE_PIECE, {"tokenizer.ggml.scores": [0.5]}, "'tokenizer.ggml.scores' has 1 entries, expected 272"),
        (
            SENTENCE_PIECE,
            {"tokenizer.ggml.scores": [1] * 272},
            "'tokenizer.ggml.scores' is list, expected an array of float",
        ),
    ],
)
def test_what_is_refused(tmp_path, base, changed, message):
    without = [name for name, value in changed.items() if value is None]
    given = {name: value for name, value in changed.items() if value is not None}
    with pytest.raises(ValueError, match=rf"model\.gguf: .*{message}|model\.gguf: {message}"):
        read(tmp_path, base, given, without)


def test_scores_that_are_no_numbers(tmp_path):
    scores = [float("nan")] * len(PIECES)
    with pytest.raises(ValueError, match=r"model\.gguf: key 'tokenizer\.ggml\.scores' holds nan"):
        read(tmp_path, SENTENCE_PIECE, {"tokenizer.ggml.scores": scores})
