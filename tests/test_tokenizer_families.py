"""Tokenizers of every family, from today's files and from older ones: the ids and texts that Transformers recorded."""

import itertools
import json
import pickle
import sys
import zipfile
from functools import cache
from pathlib import Path

import pytest
from checkpoints import minilm
from tfcore import AutoTokenizer
from tfcore.models import Tokenizer
from tfcore.models.config import Config
from tokenizer_cases import CALLS, TEXTS, attributes, outcome

ARCHIVE = Path(__file__).parent / "golden" / "tokenizers.zip"


@cache
def recorded():
    with zipfile.ZipFile(ARCHIVE) as archive:
        return json.loads(archive.read("recorded.json"))


FOLDERS = sorted(recorded()["folders"])


@pytest.fixture
def copy(folders, tmp_path):
    """A folder of one's own, to be changed."""

    def copy_of(name):
        for file in (folders / name).iterdir():
            (tmp_path / file.name).write_bytes(file.read_bytes())
        return tmp_path

    return copy_of


def plain(value):
    """As JSON has it: offsets and the like are tuples."""
    return json.loads(json.dumps(value))


# ---- Transformers' ids and texts


@pytest.mark.parametrize("name", FOLDERS)
def test_as_recorded(folders, name):
    tokenizer, want = AutoTokenizer.from_pretrained(folders / name), recorded()["folders"][name]
    assert attributes(tokenizer) == want["attributes"]
    for (arguments, options), result in zip(CALLS, want["calls"], strict=True):
        assert plain(outcome(tokenizer, *arguments, **options)) == result, (arguments, options)
    for skip, texts in zip((False, True), want["decoded"], strict=True):
        assert [tokenizer.decode(tokenizer(t)["input_ids"], skip_special_tokens=skip) for t in TEXTS] == texts


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", FOLDERS)
def test_as_transformers_installed(folders, name):
    transformers = pytest.importorskip("transformers", minversion="5")
    pytest.importorskip("google.protobuf")  # Transformers reads SentencePiece's files with it
    if name == "marian":
        pytest.importorskip("sentencepiece")
    ours, theirs = (
        AutoTokenizer.from_pretrained(folders / name),
        transformers.AutoTokenizer.from_pretrained(folders / name),
    )
    assert attributes(ours) == attributes(theirs)
    for arguments, options in CALLS:
        assert outcome(ours, *arguments, **options) == outcome(theirs, *arguments, **options)
    ids = ours(TEXTS)["input_ids"]
    for skip in (False, True):
        assert ours.batch_decode(ids, skip_special_tokens=skip) == theirs.batch_decode(ids, skip_special_tokens=skip)
    assert ours.convert_ids_to_tokens(ids[4]) == theirs.convert_ids_to_tokens(ids[4])
    tokens = ours.tokenize(TEXTS[0])
    assert tokens == theirs.tokenize(TEXTS[0])
    assert ours.convert_tokens_to_string(tokens) == theirs.convert_tokens_to_string(tokens)
    assert ours.is_fast == theirs.is_fast


def test_sentencepiece_itself_cuts_the_same(folders):
    """The conversion against the library the files are of, on texts where families have no ways of their own."""
    sentencepiece = pytest.importorskip("sentencepiece")
    for name, file in {"t5": "spiece.model", "llama": "tokenizer.model", "gemma": "tokenizer.model"}.items():
        pieces = sentencepiece.SentencePieceProcessor(model_file=str(folders / name / file))
        tokenizer = AutoTokenizer.from_pretrained(folders / name)
        for text in ("the quick brown fox", "naïve café — ﬁne 東京 🙂", "numbers 1 2 345"):
            assert tokenizer.encode(text, add_special_tokens=False) == pieces.encode(text), (name, text)
    pieces = sentencepiece.SentencePieceProcessor(model_file=str(folders / "xlm-roberta" / "sentencepiece.bpe.model"))
    tokenizer = AutoTokenizer.from_pretrained(folders / "xlm-roberta")
    moved = [i + 1 if i > 2 else 3 for i in pieces.encode("the ﬁne 東 fox")]
    assert tokenizer.encode("the ﬁne 東 fox", add_special_tokens=False) == moved


# ---- what families differ in


def test_types_only_where_models_take_them(folders):
    for name in FOLDERS:
        typed = "token_type_ids" in AutoTokenizer.from_pretrained(folders / name)("the")
        assert typed == (name in ("bert", "bert-json", "electra")), name


def test_the_class_counts_before_the_model(copy):
    folder = copy("bert-json")
    stated = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps(stated | {"tokenizer_class": "DistilBertTokenizerFast"}))
    assert AutoTokenizer.from_pretrained(folder).model_input_names == ["input_ids", "attention_mask"]
    (folder / "tokenizer_config.json").write_text(json.dumps(stated | {"model_input_names": ["input_ids"]}))
    assert list(AutoTokenizer.from_pretrained(folder)("the")) == ["input_ids"]
    (folder / "tokenizer_config.json").unlink()
    (folder / "config.json").write_text('{"model_type": "distilbert"}')
    assert "token_type_ids" not in AutoTokenizer.from_pretrained(folder)("the")


def test_ends_asked_for_by_the_caller(folders):
    tokenizer = AutoTokenizer.from_pretrained(folders / "gpt2-json", add_bos_token=True, add_eos_token=True)
    end, the, fox = tokenizer.eos_token, tokenizer.tokenize("the"), tokenizer.tokenize("fox")
    got = tokenizer("the", "fox", return_token_type_ids=True)
    assert got.tokens() == [end, *the, end, end, *fox, end]
    assert got["token_type_ids"] == [0] * (len(the) + 2) + [1] * (len(fox) + 2)
    llama = AutoTokenizer.from_pretrained(folders / "llama-json", add_bos_token=False)
    assert llama.bos_token_id not in llama("the")["input_ids"]
    with pytest.raises(ValueError, match=r"field 'add_bos_token' asks for a token, and no 'bos_token' is stated"):
        AutoTokenizer.from_pretrained(folders / "qwen2-json", add_bos_token=True)


@pytest.mark.parametrize("kind", ["gpt2-json", "llama-json"])
def test_ends_that_are_set_later(folders, kind):
    """As in Transformers, and read from what a call does, whatever the call before it padded and cut."""
    tokenizer = AutoTokenizer.from_pretrained(folders / kind)
    tokenizer.pad_token = tokenizer.eos_token
    begin, end = tokenizer.bos_token, tokenizer.eos_token
    words = tokenizer("the fox", add_special_tokens=False).tokens()
    for add_bos in (True, False):
        for add_eos in (False, True):
            tokenizer("the", padding="max_length", max_length=9)
            tokenizer.add_bos_token, tokenizer.add_eos_token = add_bos, add_eos
            assert (tokenizer.add_bos_token, tokenizer.add_eos_token) == (add_bos, add_eos)
            want = [begin] * add_bos + words + [end] * add_eos
            assert tokenizer("the fox").tokens() == want
            assert tokenizer("the fox", "the fox").tokens() == want * 2
            assert pickle.loads(pickle.dumps(tokenizer))("the fox").tokens() == want
            opened = AutoTokenizer.from_pretrained(folders / kind, add_bos_token=add_bos, add_eos_token=add_eos)
            assert (opened.add_bos_token, opened.add_eos_token) == (add_bos, add_eos)
            assert opened("the fox").tokens() == want


def test_ends_that_are_not_set_stay(folders):
    tokenizer = AutoTokenizer.from_pretrained(folders / "bert-json")
    cls, sep = tokenizer.cls_token, tokenizer.sep_token
    tokenizer.add_special_tokens({"bos_token": "[B]", "eos_token": "[E]"})
    tokenizer.add_bos_token = tokenizer.add_eos_token = True
    assert tokenizer("the").tokens() == ["[B]", cls, "the", sep, "[E]"]
    tokenizer.add_bos_token = False
    assert tokenizer("the", "fox").tokens() == [cls, "the", sep, "[E]", cls, "fox", sep, "[E]"]
    tokenizer.add_eos_token = False
    assert tokenizer("the").tokens() == [cls, "the", sep]


def test_ends_that_cannot_be_set(folders):
    bert = AutoTokenizer.from_pretrained(folders / "bert-json")
    assert (bert.add_bos_token, bert.add_eos_token) == (False, False)
    with pytest.raises(ValueError, match="add_bos_token is True, and bos_token is None: set it first"):
        bert.add_bos_token = True
    with pytest.raises(TypeError, match="add_eos_token is str, expected a bool"):
        bert.add_eos_token = "yes"
    bert.bos_token = bert.cls_token
    bert.add_bos_token = False
    assert bert("the").tokens()[-1] == bert.sep_token


def test_cleaning_up_can_be_set(folders):
    tokenizer = AutoTokenizer.from_pretrained(folders / "bert")
    ids = tokenizer("the fox ' s", add_special_tokens=False)["input_ids"]
    for clean, text in ((True, "the fox's"), (False, "the fox ' s")):
        tokenizer.clean_up_tokenization_spaces = clean
        assert tokenizer.decode(ids) == text


@pytest.mark.parametrize("end", ["$A", "a:b", "$B:0", "é x"])
def test_an_end_is_what_it_is_whatever_it_looks_like(folders, end):
    tokenizer = AutoTokenizer.from_pretrained(folders / "gpt2-json", add_eos_token=True, eos_token=end)
    the = tokenizer.tokenize("the")
    assert tokenizer("the", "the").tokens() == [*the, end, *the, end]


def test_a_panic_of_the_library_is_an_error_of_the_file(copy):
    folder = copy("gpt2-json")
    content = json.loads((folder / "tokenizer.json").read_text())
    content["post_processor"] = {
        "type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": "no such token", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {},
    }
    (folder / "tokenizer.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"not a tokenizer|cannot tokenize"):
        AutoTokenizer.from_pretrained(folder)("the")


def test_a_space_before_the_first_word(folders):
    for name in ("gpt2", "gpt2-json"):
        plain_, spaced = (AutoTokenizer.from_pretrained(folders / name, add_prefix_space=on) for on in (False, True))
        assert spaced.encode("the fox") == plain_.encode(" the fox") != plain_.encode("the fox")


def test_where_words_begin_behind_a_space_that_was_added(folders, copy):
    """As Transformers does, the processor that takes spaces out of offsets follows the setting, too."""
    folder = copy("gpt2-json")
    content = json.loads((folder / "tokenizer.json").read_text())
    ends = {"sep": ["<|endoftext|>", 0], "cls": ["<|endoftext|>", 0]}
    content["post_processor"] = {"type": "RobertaProcessing", **ends, "trim_offsets": True, "add_prefix_space": False}
    (folder / "tokenizer.json").write_text(json.dumps(content))
    tokenizer = AutoTokenizer.from_pretrained(folder, add_prefix_space=True)
    offsets = tokenizer("the fox", return_offsets_mapping=True, add_special_tokens=False).offset_mapping
    assert "".join("the fox"[begin:end] for begin, end in offsets) == "thefox"


@pytest.mark.parametrize(
    "settings",
    [
        {"clean_up_tokenization_spaces": True},
        {"do_lower_case": False},
        {"strip_accents": False},
        {"additional_special_tokens": ["<x>"]},
    ],
)
def test_settings_beside_transformers(settings):
    theirs = pytest.importorskip("transformers").AutoTokenizer.from_pretrained(minilm(), **settings)
    ours = AutoTokenizer.from_pretrained(minilm(), **settings)
    text = "Hello <x> Wörld , isn't it ?"
    assert ours(text).input_ids == theirs(text).input_ids
    assert ours.decode(ours(text).input_ids) == theirs.decode(theirs(text).input_ids)
    assert len(ours) == len(theirs)


def test_a_ready_backend(folders):
    from tokenizers import Tokenizer as Backend

    backend = Backend.from_file(str(folders / "gpt2-json" / "tokenizer.json"))
    tokenizer = Tokenizer(backend, Config({"eos_token": "<|endoftext|>", "chat_template": "{{ eos_token }}"}, "a.gguf"))
    assert list(tokenizer("the fox")) == ["input_ids", "attention_mask"]
    assert tokenizer.apply_chat_template([{}], tokenize=False) == "<|endoftext|>"
    assert (tokenizer.eos_token, tokenizer.pad_token) == ("<|endoftext|>", None)


# ---- long pairs


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("name", sorted(set(FOLDERS) - {"marian"}))
def test_long_pairs_are_cut_as_whole_ones_are(folders, name, side):
    """The backend makes as many rows of a pair as its texts have parts, multiplied, whoever asks for them."""
    tokenizer = AutoTokenizer.from_pretrained(folders / name, truncation_side=side)
    long, longer, short = " ".join(TEXTS) * 2, " ".join(TEXTS[::-1]) * 3, TEXTS[0]
    pairs = [(long, longer), (longer, long), (short, longer)]
    pairs += [(first.split(), second.split()) for first, second in pairs]
    for (first, second), truncation in itertools.product(pairs, ("longest_first", "only_first", "only_second")):
        options = {"truncation": truncation, "max_length": 24, "is_split_into_words": isinstance(first, list)}
        options["return_offsets_mapping"] = True
        got = outcome(tokenizer, first, second, **options)
        rows = outcome(tokenizer, first, second, return_overflowing_tokens=True, **options)
        assert got == (rows and {key: rows[key][0] for key in got}), (first, second, truncation)


def test_a_long_pair_makes_few_rows(folders):
    batch = AutoTokenizer.from_pretrained(folders / FOLDERS[0])(
        "a " * 9000, "b " * 9000, truncation=True, max_length=16
    )
    assert len(batch["input_ids"]) == 16
    assert len(batch[0].overflowing) < 100


# ---- translations


def test_labels_are_the_answer_in_the_other_language(folders):
    tokenizer = AutoTokenizer.from_pretrained(folders / "marian")
    both = tokenizer(["the fox"], text_target=["der Fuchs"])
    answer = tokenizer(text_target=["der Fuchs"])
    assert both["labels"] == answer["input_ids"] != tokenizer(["der Fuchs"])["input_ids"]
    assert both["input_ids"] == tokenizer(["the fox"])["input_ids"]
    assert tokenizer.decode(both["labels"][0], skip_special_tokens=True) == "der Fuchs"
    padded = tokenizer(["the fox"] * 2, text_target=["der", "der Fuchs"], padding=True, return_tensors="np")
    assert padded["labels"].shape[0] == 2
    assert (padded["labels"][0] == tokenizer.pad_token_id).any()
    assert tokenizer(">>fra<< the").tokens()[0] == ">>fra<<"
    with pytest.raises(ValueError, match="return_offsets_mapping is True, and Marian's"):
        tokenizer("the", return_offsets_mapping=True)


def test_pieces_do_not_know_where_they_are_from(folders):
    tokenizer = AutoTokenizer.from_pretrained(folders / "marian")
    assert not tokenizer.is_fast
    batch = tokenizer("the fox")
    assert batch.sequence_ids() == [0] * (len(batch.tokens()) - 1) + [None]
    for ask in (batch.word_ids, lambda: batch.char_to_token(1), lambda: batch.token_to_chars(0)):
        with pytest.raises(ValueError, match="Marian's pieces are not told where in the text they are from"):
            ask()


def test_words_are_pieces_one_after_the_other(folders):
    tokenizer = AutoTokenizer.from_pretrained(folders / "marian")
    words, pair = ["the", "fox", "jumps"], ["over", "it"]
    alone = tokenizer(words, add_special_tokens=False)["input_ids"]
    ids = tokenizer(words, is_split_into_words=True)["input_ids"]
    assert ids == [*(i for word in alone for i in word), tokenizer.eos_token_id]
    both = tokenizer([words], [pair], is_split_into_words=True)["input_ids"][0]
    assert both == ids[:-1] + tokenizer(pair, is_split_into_words=True)["input_ids"]
    assert tokenizer.convert_tokens_to_string(tokenizer.tokenize("the fox")) == "the fox"


def test_one_vocabulary_a_side(copy):
    folder = copy("marian")
    ids = json.loads((folder / "vocab.json").read_text())
    turned = {token: len(ids) - 1 - i for token, i in ids.items()}
    (folder / "target_vocab.json").write_text(json.dumps(turned))
    (folder / "tokenizer_config.json").write_text('{"separate_vocabs": true}')
    tokenizer = AutoTokenizer.from_pretrained(folder)
    labels = tokenizer(text_target="der Fuchs")["input_ids"]
    assert labels[-1] == turned["</s>"]
    assert tokenizer.decode(labels) == "der Fuchs</s>"


def test_a_pickle_of_a_pair(folders):
    tokenizer = AutoTokenizer.from_pretrained(folders / "marian")
    again = pickle.loads(pickle.dumps(tokenizer))
    assert again(TEXTS, text_target=TEXTS) == tokenizer(TEXTS, text_target=TEXTS)


def test_sentencepiece_is_asked_for_only_where_needed(folders, monkeypatch):
    monkeypatch.setitem(sys.modules, "sentencepiece", None)
    for name in ("t5", "llama", "xlm-roberta"):
        assert AutoTokenizer.from_pretrained(folders / name)("the")["input_ids"]
    with pytest.raises(ModuleNotFoundError, match=r'pip install "tfcore\[sentencepiece\]"'):
        AutoTokenizer.from_pretrained(folders / "marian")


# ---- files that lie


@pytest.mark.parametrize("name", ["t5/spiece.model", "llama/tokenizer.model", "xlm-roberta/sentencepiece.bpe.model"])
def test_a_model_cut_short_at_any_byte(copy, name):
    folder, file = copy(name.split("/")[0]), name.split("/")[1]
    whole = (folder / file).read_bytes()
    for size in [0, 1, 5, *range(100, len(whole), 97), len(whole) - 200]:
        (folder / file).write_bytes(whole[:size])
        with pytest.raises(ValueError, match=file.replace(".", r"\.") + ": not a SentencePiece model, or cut short"):
            AutoTokenizer.from_pretrained(folder)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"{}", "not a SentencePiece model"),
        (b"\xff" * 12, "the number at byte 10 is too long"),
        (b"\x0a\x04\x0a\x02\xc3\x28\x12\x00\x1a\x00", "utf-8"),
        (b"\x0a\x03\x0a\x01a\x12\x02\x18\x07\x1a\x00", "was trained by algorithm 7, expected 1 for T5"),
        (b"\x0a\x03\x0a\x01a\x12\x00\x1a\x00", "has no piece for what is unknown"),
        (b"\x0a\x05\x0a\x01a\x18\x02\x12\x00\x1a\x03\x12\x01x", "its table of characters is broken"),
        (b"\x0a\x05\x0a\x01a\x18\x02\x12\x00\x1a\x00", "lacks the special tokens </s>"),
        (b"\x08\x01\x12\x00\x1a\x00", "field holds int, expected bytes|0 pieces"),
        (b"\x0a\x02\x10\x01\x12\x00\x1a\x00", "score or type is of the wrong kind"),
    ],
)
def test_a_model_that_lies(tmp_path, data, message):
    (tmp_path / "spiece.model").write_bytes(data)
    with pytest.raises(ValueError, match=message) as error:
        AutoTokenizer.from_pretrained(tmp_path)
    assert "spiece.model" in str(error.value)


def set_file(file, content):
    def change(folder):
        (folder / file).write_text(content)

    return change


def drop_token(token):
    def change(folder):
        ids = json.loads((folder / "vocab.json").read_text())
        del ids[token]
        (folder / "vocab.json").write_text(json.dumps(ids))

    return change


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("gpt2", set_file("vocab.json", "{"), r"vocab\.json and merges\.txt: not a vocabulary"),
        ("gpt2", set_file("vocab.json", '{"a": "b"}'), r"vocab\.json and merges\.txt: not a vocabulary"),
        ("gpt2", set_file("merges.txt", "#version: 0.2\nx y z w\n"), r"not a vocabulary and its merges"),
        ("gpt2", set_file("merges.txt", "#version: 0.2\nnosuch token\n"), r"not a vocabulary and its merges"),
        ("gpt2", set_file("tokenizer_config.json", '{"add_bos_token": 1}'), "'add_bos_token' is 1, expected true or"),
        ("gpt2", set_file("config.json", '{"model_type": 3}'), "'model_type' is 3, expected a string"),
        ("gpt2", set_file("config.json", '{"model_type": []}'), r"'model_type' is \[\], expected a string"),
        ("gpt2", set_file("config.json", "["), r"config\.json: not valid JSON"),
        ("gpt2", set_file("tokenizer_config.json", '{"model_input_names": 5}'), "'model_input_names' is 5, expected a"),
        ("gpt2", set_file("tokenizer_config.json", '{"additional_special_tokens": "abc"}'), "'abc', expected a list"),
        ("gpt2", set_file("tokenizer_config.json", '{"add_eos_token": true, "eos_token": ""}'), "'eos_token' is empty"),
        ("gpt2", set_file("tokenizer_config.json", '{"tokenizer_class": []}'), "'tokenizer_class' is"),
        ("gpt2", set_file("tokenizer_config.json", '{"chat_template": 3}'), "neither a template nor a list of named"),
        ("gpt2", set_file("tokenizer_config.json", '{"chat_template": [{"name": "a"}]}'), "neither a template nor"),
        ("gpt2", set_file("added_tokens.json", '{"<new>": 999}'), "'<new>' is listed with the id 999, and gets 311"),
        ("gpt2", set_file("added_tokens.json", '{"<new>": "x"}'), r"added_tokens\.json: holds"),
        ("gpt2", set_file("tokenizer_config.json", '{"added_tokens_decoder": {"x": 1}}'), "not an object of ids"),
        ("gpt2", set_file("tokenizer_config.json", '{"eos_token": {"content": "a", "lstrip": 3}}'), "its flags to be"),
        ("roberta", drop_token("<mask>"), r"vocab\.json: lacks the special tokens <mask>"),
        ("marian", drop_token("<pad>"), r"vocab\.json: lacks the special tokens <pad>"),
        ("marian", set_file("vocab.json", '{"</s>": "a", "<unk>": 1, "<pad>": 2}'), r"vocab\.json: holds something"),
        ("marian", set_file("target.spm", "nonsense"), r"target\.spm: not a SentencePiece model"),
        ("t5", set_file("tokenizer_config.json", '{"extra_ids": -1}'), "'extra_ids' is -1, expected 0 to"),
        ("t5", set_file("tokenizer_config.json", '{"extra_ids": 1e99}'), "'extra_ids' is 1e\\+99, expected 0 to"),
        ("gemma", set_file("tokenizer_config.json", '{"tokenizer_class": "T5Tokenizer"}'), "expected 1 for T5"),
    ],
)
def test_a_broken_file_is_named(copy, name, change, message):
    folder = copy(name)
    change(folder)
    with pytest.raises(ValueError, match=message):
        AutoTokenizer.from_pretrained(folder)


def test_what_is_missing_is_named(copy):
    folder = copy("marian")
    (folder / "target.spm").unlink()
    with pytest.raises(FileNotFoundError, match=r"target\.spm: no such file"):
        AutoTokenizer.from_pretrained(folder)
