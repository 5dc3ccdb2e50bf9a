"""Sentence vectors: pooled as the checkpoint's files say, and the same bits in any company."""

import copy
import json
import os
import pickle
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tfcore
from checkpoints import CONFIG, minilm, write_bert, write_safetensors
from embedding_checkpoints import CASES, write_case
from tfcore import AutoModel, AutoTokenizer, SentenceEncoder
from tfcore.embedding import quantize_embeddings

GOLDEN = Path(__file__).parent / "golden" / "minilm.npz"
TEXTS = ["the two cu?", "", "a b c d e f g", "z", "cut the cut, the two cuts!"]
POOLINGS = {  # hidden states of one text (L, C) and the place of each token, from 1 → (C,)
    "cls": lambda h, place: h[0],
    "max": lambda h, place: h.max(0),
    "mean": lambda h, place: h.mean(0),
    "mean_sqrt_len_tokens": lambda h, place: h.sum(0) / np.sqrt(len(h)),
    "weightedmean": lambda h, place: (h * place[:, None]).sum(0) / place.sum(),
    "lasttoken": lambda h, place: h[-1],
}


@pytest.fixture(scope="module")
def encoder():
    return SentenceEncoder(minilm())


@pytest.fixture
def folder(tmp_path):
    """A small checkpoint with sentence-transformers' files."""
    write_files(write_bert(tmp_path), {"pooling_mode": "mean"})
    return tmp_path


def write_files(folder, pooling, kinds=("Transformer", "Pooling"), **files):
    paths = {"Transformer": "", "Pooling": "1_Pooling"}
    modules = [{"type": f"sentence_transformers.models.{kind}", "path": paths.get(kind, "2")} for kind in kinds]
    (folder / "1_Pooling").mkdir(exist_ok=True)
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    (folder / "modules.json").write_text(json.dumps(modules))
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    return folder


def hidden(folder, text, **options):
    inputs = AutoTokenizer.from_pretrained(folder)(text, return_tensors="np", **options)
    return AutoModel.from_pretrained(folder)(**inputs).last_hidden_state[0].astype(np.float64)


def unit(vector):
    return vector / np.linalg.norm(vector, axis=-1, keepdims=True)


# ---- MiniLM, as its own files say: mean, length 1, 256 tokens


def test_recorded_vectors(encoder):
    golden = np.load(GOLDEN)
    texts = [text for text, pair in zip(golden["first"], golden["second"], strict=True) if not pair]
    want = golden["embedding"][golden["second"] == ""]
    got = encoder.encode([str(text) for text in texts])
    assert got.shape == (len(texts), 384)
    assert got.dtype == np.float32
    assert np.abs(got - want).max() <= 2e-6
    assert np.allclose(np.linalg.norm(got, axis=1), 1, atol=1e-6)


@pytest.mark.filterwarnings("ignore")
def test_beside_sentence_transformers(encoder):
    library = pytest.importorskip("sentence_transformers", exc_type=ImportError)
    theirs = library.SentenceTransformer(str(minilm()), device="cpu")
    texts = ["Understanding Transformers!", "", "word " * 700, "naïve café 東京", "  Two  spaces "]
    assert np.abs(encoder.encode(texts) - theirs.encode(texts)).max() <= 1e-5
    assert np.abs(encoder.encode(texts, prompt="query: ") - theirs.encode(texts, prompt="query: ")).max() <= 1e-5


def test_what_the_files_say(encoder):
    assert encoder.max_seq_length == 256
    assert encoder.dimension == 384
    long = "word " * 700
    vector, info = encoder.encode(long, return_info=True)
    assert info.truncated.tolist() == [0]
    assert np.array_equal(vector, encoder.encode(long[: 5 * 254]))
    assert not np.array_equal(vector, encoder.encode(long[: 5 * 250]))


def test_like_texts_are_alike(encoder):
    vectors = encoder.encode(["A cat sits on the mat.", "A kitten rests on a rug.", "Interest rates rose again."])
    similarity = encoder.similarity(vectors, vectors)
    assert similarity.shape == (3, 3)
    assert np.allclose(similarity, vectors @ vectors.T, atol=1e-6)
    assert similarity[0, 1] > 0.4 > 0.2 > similarity[0, 2]


# ---- the same bits in any company


def test_batches_order_and_threads_leave_the_bits_alone(encoder):
    texts = [f"{'word ' * (n % 17)}number {n}" for n in range(70)]
    want = encoder.encode(texts)
    for batch_size in (1, 3, 64):
        assert np.array_equal(encoder.encode(texts, batch_size=batch_size), want)
    assert np.array_equal(encoder.encode(texts[::-1]), want[::-1])
    assert np.array_equal(encoder.encode(texts[33]), want[33])
    for threads in (1, 5):
        with tfcore.num_threads(threads):
            assert np.array_equal(encoder.encode(texts), want)


def test_more_texts_than_a_window(folder):
    encoder = SentenceEncoder(folder)
    texts = [TEXTS[n % 5] for n in range(200)]
    got = encoder.encode(texts, batch_size=2)
    assert np.array_equal(got, np.tile(encoder.encode(TEXTS), (40, 1)))


# ---- pooling


@pytest.mark.parametrize("include_prompt", [True, False])
@pytest.mark.parametrize("mode", [*POOLINGS, ["cls", "max", "weightedmean"]], ids=str)
def test_pooling(folder, mode, include_prompt):
    write_files(folder, {"pooling_mode": mode, "include_prompt": include_prompt})
    modes = [mode] if isinstance(mode, str) else mode
    got = SentenceEncoder(folder).encode(TEXTS, prompt="two b ")
    assert got.shape == (5, 32 * len(modes))
    for text, vector in zip(TEXTS, got, strict=True):
        states = hidden(folder, "two b " + text)
        skip = 0 if include_prompt else 3  # [CLS] two b
        place = np.arange(1, len(states) + 1)
        want = np.concatenate([POOLINGS[name](states[skip:], place[skip:]) for name in modes])
        assert np.abs(vector - want).max() <= 1e-6


def test_a_prompt_is_cut_where_the_text_is(folder):
    write_files(folder, {"pooling_mode": "mean", "include_prompt": False})
    encoder = SentenceEncoder(folder)
    encoder.max_seq_length = 4
    with pytest.warns(UserWarning, match="more than max_seq_length"):
        encoder.encode("cut", prompt="two b two b ")
    states = encoder.encode("cut", prompt="two b two b ", output_value="token_embeddings")
    assert len(states) == 4
    assert np.abs(encoder.encode("cut", prompt="two b two b ") - states[3]).max() <= 1e-6  # [SEP] is what remains


@pytest.mark.parametrize(
    ("flag", "mode"),
    [
        ("pooling_mode_cls_token", "cls"),
        ("pooling_mode_max_tokens", "max"),
        ("pooling_mode_mean_tokens", "mean"),
        ("pooling_mode_mean_sqrt_len_tokens", "mean_sqrt_len_tokens"),
        ("pooling_mode_weightedmean_tokens", "weightedmean"),
        ("pooling_mode_lasttoken", "lasttoken"),
    ],
)
def test_the_flags_of_old_files(folder, flag, mode):
    write_files(folder, {"pooling_mode_mean_tokens": False, flag: True})
    old = SentenceEncoder(folder).encode(TEXTS)
    assert np.array_equal(old, SentenceEncoder(write_files(folder, {"pooling_mode": mode})).encode(TEXTS))


def test_without_modules_the_mean(folder):
    want = SentenceEncoder(folder).encode(TEXTS)
    (folder / "modules.json").unlink()
    assert np.array_equal(SentenceEncoder(folder).encode(TEXTS), want)


def test_a_text_without_tokens(folder):
    """A tokenizer that adds nothing to an empty text leaves nothing to pool: zeros."""
    shutil.copy(minilm() / "tokenizer.json", folder)
    content = json.loads((folder / "tokenizer.json").read_text())
    content["post_processor"] = None
    content["model"]["vocab"] = {"[UNK]": 0, "a": 1}
    content["added_tokens"] = []
    (folder / "tokenizer.json").write_text(json.dumps(content))
    got = SentenceEncoder(folder).encode(["", "a", ""])
    assert not got[[0, 2]].any()
    assert got[1].any()


# ---- options


def test_normalize_and_truncate(folder, encoder):
    small = SentenceEncoder(folder)
    plain = small.encode(TEXTS)
    assert not np.allclose(np.linalg.norm(plain, axis=1), 1)
    assert np.abs(small.encode(TEXTS, normalize_embeddings=True) - unit(plain)).max() <= 1e-6
    assert np.array_equal(small.encode(TEXTS, truncate_dim=5), plain[:, :5])
    short = small.encode(TEXTS, truncate_dim=5, normalize_embeddings=True)
    assert np.abs(short - unit(plain[:, :5])).max() <= 1e-6
    whole = encoder.encode(["one", "two"])
    assert np.abs(encoder.encode(["one", "two"], truncate_dim=64) - unit(whole[:, :64])).max() <= 1e-6


def test_prompts(folder):
    options = {"prompts": {"query": "two b "}, "default_prompt_name": "query"}
    encoder = SentenceEncoder(write_files(folder, {}, config_sentence_transformers=options))
    plain = SentenceEncoder(write_files(folder, {}, config_sentence_transformers={}))
    assert np.array_equal(encoder.encode("cut"), plain.encode("two b cut"))
    assert np.array_equal(encoder.encode("cut", prompt=""), plain.encode("cut"))
    assert np.array_equal(encoder.encode("cut", prompt="a "), plain.encode("a cut"))


def test_lower_case_and_length(folder):
    (folder / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": False}))
    settings = {"max_seq_length": 4, "do_lower_case": True}
    encoder = SentenceEncoder(write_files(folder, {}, sentence_bert_config=settings))
    want = hidden(folder, "the two cut", truncation=True, max_length=4).mean(0)
    assert np.abs(encoder.encode("The TWO cut", return_info=True)[0] - want).max() <= 1e-6
    assert SentenceEncoder(write_files(folder, {}, sentence_bert_config={})).max_seq_length == 24


def test_token_embeddings(folder):
    encoder = SentenceEncoder(folder)
    rows = encoder.encode(TEXTS, output_value="token_embeddings", batch_size=2)
    for text, row in zip(TEXTS, rows, strict=True):
        assert np.array_equal(row, hidden(folder, text).astype(np.float32))
    assert np.array_equal(encoder.encode(TEXTS[0], output_value="token_embeddings"), rows[0])


def test_inputs_of_many_kinds(folder):
    encoder = SentenceEncoder(folder)
    want = encoder.encode(TEXTS)
    assert want.flags.c_contiguous
    assert np.array_equal(encoder.encode(tuple(TEXTS)), want)
    assert np.array_equal(encoder.encode(np.array(TEXTS)), want)
    assert np.array_equal(encoder.encode(text for text in TEXTS), want)
    assert encoder.encode(TEXTS[0]).shape == (32,)
    assert encoder.encode([]).shape == (0, 32)
    assert encoder.encode([], output_value="token_embeddings") == []


@pytest.mark.parametrize(
    ("name", "formula"),
    [
        ("cosine", lambda a, b: unit(a) @ unit(b)),
        ("dot", lambda a, b: a @ b),
        ("euclidean", lambda a, b: -np.sqrt(((a - b) ** 2).sum())),
        ("manhattan", lambda a, b: -np.abs(a - b).sum()),
    ],
)
def test_similarity(folder, name, formula):
    encoder = SentenceEncoder(write_files(folder, {}, config_sentence_transformers={"similarity_fn_name": name}))
    vectors = encoder.encode(TEXTS)
    got = encoder.similarity(vectors, vectors[:2])
    assert got.shape == (5, 2)
    for i, j in np.ndindex(5, 2):
        assert abs(got[i, j] - formula(vectors[i].astype(float), vectors[j].astype(float))) <= 1e-4
    assert np.array_equal(encoder.similarity(vectors[0], vectors[1]), encoder.similarity(vectors[:1], vectors[1:2]))
    assert encoder.similarity(vectors, vectors[:0]).shape == (5, 0)
    with pytest.raises(ValueError, match=r"b has shape \(1, 5, 32\), expected \(n, dim\)"):
        encoder.similarity(vectors, vectors[None])
    with pytest.raises(ValueError, match=r"b has shape \(5, 7\), expected vectors as long as those of a, \(5, 32\)"):
        encoder.similarity(vectors, vectors[:, :7])
    with pytest.raises(ValueError, match=r"b has shape \(2, 32\), expected as many vectors as a, \(5, 32\)"):
        encoder.similarity_pairwise(vectors, vectors[:2])
    with pytest.raises(TypeError, match="a is NoneType, expected vectors"):
        encoder.similarity_pairwise(None, vectors)


@pytest.mark.parametrize("precision", ["float32", "int8", "binary"])
def test_all_there_is_holds_vectors_of_the_precision_asked_for(folder, precision):
    encoder = SentenceEncoder(folder)
    want = encoder.encode(TEXTS, precision=precision)
    for item, vector in zip(encoder.encode(TEXTS, precision=precision, output_value=None), want, strict=True):
        assert item["sentence_embedding"].dtype == want.dtype
        assert np.array_equal(item["sentence_embedding"], vector)


def test_a_pickle_opens_the_folder_again(folder):
    encoder = SentenceEncoder(folder)
    again = pickle.loads(pickle.dumps(encoder))
    assert np.array_equal(again.encode(TEXTS), encoder.encode(TEXTS))


def test_a_progress_bar_on_request(folder, capsys):
    pytest.importorskip("rich")
    encoder = SentenceEncoder(folder)
    encoder.encode(TEXTS * 20, batch_size=1)
    assert capsys.readouterr() == ("", ""), "none unless standard error is a terminal"
    encoder.encode(TEXTS, show_progress_bar=True)
    out, err = capsys.readouterr()
    assert out == ""
    assert "5/5" in err


# ---- errors


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"sentences": ["a", 3]}, TypeError, r"sentences\[1\] is int, expected a string"),
        ({"sentences": [["a"]]}, TypeError, r"sentences\[0\] is list"),
        *(
            ({"sentences": bad}, TypeError, f"sentences is {type(bad).__name__}, expected a string or several")
            for bad in (3, None, b"a", {"a": 1}, np.array("a"))
        ),
        ({"sentences": "a", "prompt": "\udcff"}, ValueError, "prompt is .* half of a surrogate pair"),
        (
            {"output_value": "token_embeddings", "precision": "binary"},
            ValueError,
            "precision is 'binary', expected 'float32' where output_value is 'token_embeddings'",
        ),
        ({"batch_size": 0}, ValueError, "batch_size is 0, expected a positive integer"),
        ({"batch_size": 2.0}, TypeError, "batch_size is 2.0"),
        ({"batch_size": np.int64(0)}, ValueError, r"batch_size is (np.int64\(0\)|0), expected"),
        ({"truncate_dim": 33}, ValueError, "truncate_dim is 33, expected a positive integer up to 32"),
        ({"truncate_dim": -1}, ValueError, "truncate_dim is -1"),
        ({"output_value": "tokens"}, ValueError, "output_value is 'tokens', expected one of 'sentence_embedding'"),
        ({"output_value": 3}, TypeError, "output_value is 3, expected one of 'sentence_embedding'"),
        ({"precision": None}, TypeError, "precision is None, expected one of 'float32'"),
    ],
)
def test_wrong_arguments_are_named(folder, arguments, error, message):
    with pytest.raises(error, match=message):
        SentenceEncoder(folder).encode(**{"sentences": TEXTS, **arguments})


@pytest.mark.parametrize(
    ("pooling", "kinds", "files", "message"),
    [
        (
            {},
            ("Transformer", "Pooling", "Wordy"),
            {},
            "module 'Wordy' is not known, expected Transformer, Pooling, Dense",
        ),
        ({}, ("Pooling",), {}, "modules are Pooling, expected a Transformer first"),
        ({}, (), {}, "modules are none, expected a Transformer first"),
        ({}, ("Transformer",), {}, "no module pools tokens"),
        ({}, ("Transformer", "Normalize"), {}, "Normalize stands before any Pooling"),
        (
            {},
            ("Transformer", "Pooling"),
            {"config_sentence_transformers": {"prompts": [3]}},
            "'prompts' is not an object",
        ),
        ({}, ("Transformer", "Pooling"), {"config_sentence_transformers": {"truncate_dim": 0}}, "'truncate_dim' is 0"),
        ({}, ("Transformer", "Pooling"), {"modules": [{"type": "Transformer", "path": "../x"}]}, "'path' is '../x'"),
        ({}, ("Transformer", "Pooling"), {"modules": [{"type": 3}]}, "'type' is 3, expected a string"),
        ({"pooling_mode": "middle"}, ("Transformer", "Pooling"), {}, "pooling_mode holds 'middle', expected cls"),
        ({"pooling_mode": [3]}, ("Transformer", "Pooling"), {}, "pooling_mode holds 3, expected cls"),
        ({"pooling_mode_cls_token": 1}, ("Transformer", "Pooling"), {}, "'pooling_mode_cls_token' is 1, expected true"),
        (
            {},
            ("Transformer", "Pooling"),
            {"sentence_bert_config": {"max_seq_length": "9"}},
            "'max_seq_length' is \"9\"",
        ),
        ({}, ("Transformer", "Pooling"), {"config_sentence_transformers": []}, r"holds \[\], expected an object"),
        ({}, ("Transformer", "Pooling"), {"modules": {}}, "holds {}, expected an array"),
        ({}, ("Transformer", "Pooling"), {"modules": [3]}, "field 'type' is missing"),
    ],
)
def test_a_wrong_file_is_named(folder, pooling, kinds, files, message):
    write_files(folder, pooling, kinds, **files)
    with pytest.raises(ValueError, match=message) as caught:
        SentenceEncoder(folder)
    assert str(folder) in str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"similarity_fn_name": "nearness"}, "similarity_fn_name is 'nearness', expected cosine"),
        (
            {"default_prompt_name": "passage", "prompts": {}},
            "default_prompt_name is 'passage', and the prompts known are 'query', 'document'",
        ),
    ],
)
def test_a_wrong_option_is_named(folder, options, message):
    encoder = SentenceEncoder(write_files(folder, {}, config_sentence_transformers=options))
    with pytest.raises(ValueError, match=message):
        encoder.similarity(encoder.encode(TEXTS), np.zeros((1, CONFIG["hidden_size"])))


# ---- what was cut


def test_one_warning_when_texts_are_cut(folder):
    texts = ["a", "b " * 30, "c", "d " * 40]
    encoder = SentenceEncoder(folder)
    with pytest.warns(
        UserWarning, match=r"2 of 4 texts had more than max_seq_length, 24 tokens.*sentences\[1\]"
    ) as caught:
        encoder.encode(texts)
    assert len(caught) == 1
    assert caught[0].filename == __file__
    encoder.encode(texts)  # tests take a warning for an error


@pytest.mark.parametrize("method", ["encode", "encode_query", "encode_document"])
def test_the_warning_names_the_callers_line(folder, method):
    with pytest.warns(UserWarning, match="more than max_seq_length") as caught:
        getattr(SentenceEncoder(folder), method)("b " * 30)
    assert caught[0].filename == __file__


def test_options_that_sentence_transformers_takes_first(folder):
    encoder = SentenceEncoder(folder, truncate_dim=7, device="cpu", trust_remote_code=False)
    assert encoder.eval().to(encoder.device) is encoder
    assert (encoder.dimension, encoder.get_sentence_embedding_dimension()) == (7, 7)
    assert encoder.get_max_seq_length() == encoder.max_seq_length
    want = SentenceEncoder(folder).encode(TEXTS)
    assert np.array_equal(encoder.encode(TEXTS), want[:, :7])
    assert np.array_equal(pickle.loads(pickle.dumps(encoder)).encode(TEXTS), want[:, :7])
    assert encoder.encode(TEXTS, truncate_dim=9).shape == (5, 9)
    with pytest.raises(ValueError, match="truncate_dim is 33, expected a positive integer up to 32"):
        SentenceEncoder(folder, truncate_dim=33)
    with pytest.raises(ValueError, match="device is 'cuda', expected 'cpu'"):
        SentenceEncoder(folder, device="cuda")


def test_what_was_cut_is_told(folder):
    texts = ["a", "b " * 30, "c", "d " * 40] * 30
    vectors, info = SentenceEncoder(folder).encode(texts, return_info=True)
    assert vectors.shape == (120, 32)
    assert info.truncated.tolist() == [row for row in range(120) if row % 2]
    assert info.token_counts.tolist() == [3, 24, 3, 24] * 30
    assert (info.texts, info.tokens) == (120, 30 * 54)


def test_a_text_that_just_fits_is_not_cut(folder):
    _, info = SentenceEncoder(folder).encode(["b " * 22, "b " * 23], return_info=True)
    assert info.truncated.tolist() == [1]


def test_no_length_at_all(tmp_path):
    """A T5 has no table of positions, and its tokenizer may state no length either."""
    folder = write_case(tmp_path, replace(CASES["t5"], length=int(1e30)))
    vectors, info = SentenceEncoder(folder).encode(["a " * 300, "b"], return_info=True)
    assert info.token_counts.tolist() == [302, 3]
    assert not len(info.truncated)
    assert np.isfinite(vectors).all()


def test_the_length_can_be_set(folder):
    encoder = SentenceEncoder(folder)
    encoder.max_seq_length = 5
    got, info = encoder.encode(["a b c d e f"], return_info=True)
    assert info.token_counts.tolist() == [5]
    assert np.array_equal(got, SentenceEncoder(folder).encode(["a b c"]))
    assert pickle.loads(pickle.dumps(encoder)).max_seq_length == 5
    for wrong, error in ((0, ValueError), (25, ValueError), ("3", TypeError)):
        with pytest.raises(error, match=r"max_seq_length is .*, expected a positive integer up to 24"):
            encoder.max_seq_length = wrong


SET = {
    "truncate_dim": 7,
    "prompts": {"query": "two b ", "mine": "a "},
    "default_prompt_name": "mine",
    "similarity_fn_name": "dot",
}


def test_what_is_set_counts_from_then_on(folder):
    plain = SentenceEncoder(folder)
    set_later = SentenceEncoder(folder)
    for name, value in SET.items():
        setattr(set_later, name, value)
    for encoder in (set_later, SentenceEncoder(folder, **SET)):
        for same in (encoder, pickle.loads(pickle.dumps(encoder)), copy.copy(encoder)):
            assert same.dimension == 7
            assert same.default_prompt_name == "mine"
            got = same.encode(["cut", "two"])
            assert np.array_equal(got, plain.encode(["a cut", "a two"])[:, :7])
            assert np.array_equal(same.encode_query("cut"), plain.encode("two b cut")[:7])
            assert np.abs(same.similarity(got, got) - got @ got.T).max() <= 1e-5
    set_later.truncate_dim = set_later.default_prompt_name = None
    assert np.array_equal(set_later.encode("cut"), plain.encode("cut"))
    set_later.prompts["mine"] = "two "
    copy.copy(set_later).prompts["mine"] = "one "
    assert np.array_equal(set_later.encode("cut", prompt_name="mine"), plain.encode("two cut"))
    assert plain.prompts == {"query": "", "document": ""}


def test_what_a_checkpoint_truncates_can_be_had_whole(folder):
    encoder = SentenceEncoder(write_files(folder, {}, config_sentence_transformers={"truncate_dim": 7}))
    assert (encoder.truncate_dim, encoder.encode("cut").shape) == (7, (7,))
    encoder.truncate_dim = None
    assert encoder.encode("cut").shape == (32,)


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"truncate_dim": 33}, ValueError, "truncate_dim is 33, expected a positive integer up to 32"),
        ({"prompts": ["a"]}, TypeError, "prompts is list, expected a dict of names and prompts"),
        ({"prompts": {"query": 3}}, TypeError, r"prompts\['query'\] is int, expected a string"),
        ({"default_prompt_name": 3}, TypeError, "default_prompt_name is int, expected a string"),
        ({"similarity_fn_name": "near"}, ValueError, "similarity_fn_name is 'near', expected one of 'cosine', 'dot'"),
    ],
)
def test_what_cannot_be_set(folder, settings, error, message):
    with pytest.raises(error, match=message):
        SentenceEncoder(folder, **settings)
    encoder = SentenceEncoder(folder)
    (name, value) = next(iter(settings.items()))
    with pytest.raises(error, match=message):
        setattr(encoder, name, value)
    assert encoder.encode("cut").shape == (32,)


def test_a_table_is_not_taken_for_its_columns(folder):
    pyarrow = pytest.importorskip("pyarrow")
    with pytest.raises(TypeError, match="sentences is Table, expected a string or several"):
        SentenceEncoder(folder).encode(pyarrow.table({"text": ["cut", "two"], "other": ["a", "b"]}))


def test_a_default_prompt_may_be_named_before_it_is_there(folder):
    with pytest.raises(ValueError, match="default_prompt_name is 'x', and the prompts known are 'query'"):
        SentenceEncoder(folder, default_prompt_name="x")
    encoder = SentenceEncoder(folder)
    encoder.default_prompt_name = "x"
    with pytest.raises(ValueError, match="default_prompt_name is 'x', and the prompts known are 'query'"):
        encoder.encode("cut")
    encoder.prompts["x"] = "two "
    assert np.array_equal(encoder.encode("cut"), encoder.encode("two cut", prompt=""))
    encoder.prompts["x"] = None
    with pytest.raises(TypeError, match=r"prompts\['x'\] is NoneType, expected a string"):
        encoder.encode("cut")


def test_which_prompts_queries_and_documents_get(folder):
    encoder = SentenceEncoder(folder, prompts={"query": None, "passage": "a "})
    assert np.array_equal(encoder.encode_query("cut"), encoder.encode("cut", prompt=""))
    assert np.array_equal(encoder.encode_document("cut"), encoder.encode("cut", prompt="a "))
    encoder.prompts = {"document": "", "passage": "a ", "mine": "two "}
    assert np.array_equal(encoder.encode_document("cut"), encoder.encode("cut", prompt=""))
    encoder.default_prompt_name = "mine"
    assert np.array_equal(encoder.encode_document("cut"), encoder.encode("cut", prompt=""))
    assert np.array_equal(encoder.encode_query("cut"), encoder.encode("cut", prompt="two "))


def test_an_unknown_argument(folder):
    with pytest.raises(TypeError, match="SentenceEncoder has no argument 'model_kwargs'"):
        SentenceEncoder(folder, model_kwargs={})


# ---- more of encode


def test_prompts_by_name(folder):
    options = {"prompts": {"query": "two b ", "passage": "a "}, "default_prompt_name": "passage"}
    encoder = SentenceEncoder(write_files(folder, {}, config_sentence_transformers=options))
    assert encoder.prompts == {"document": "", **options["prompts"]}
    for got, prompt in (
        (encoder.encode("cut"), "a "),
        (encoder.encode("cut", prompt_name="query"), "two b "),
        (encoder.encode("cut", prompt_name="document"), ""),
        (encoder.encode("cut", prompt_name="query", prompt="z "), "z "),
        (encoder.encode_query("cut"), "two b "),
        (encoder.encode_document("cut"), "a "),
        (encoder.encode_document("cut", prompt="z "), "z "),
    ):
        assert np.array_equal(got, encoder.encode("cut", prompt=prompt))
    with pytest.raises(
        ValueError, match=r"^prompt_name is 'cluster', and the prompts known are 'query', 'document', 'passage'"
    ):
        encoder.encode("cut", prompt_name="cluster")
    with pytest.raises(TypeError, match="prompt is int, expected a string"):
        encoder.encode("cut", prompt=3)


def test_all_there_is_of_a_text(folder):
    encoder = SentenceEncoder(folder)
    rows = encoder.encode(TEXTS, output_value=None)
    for text, row, vector in zip(TEXTS, rows, encoder.encode(TEXTS), strict=True):
        assert row["input_ids"].tolist() == AutoTokenizer.from_pretrained(folder)(text)["input_ids"]
        assert np.array_equal(row["sentence_embedding"], vector)
        assert np.array_equal(row["token_embeddings"], encoder.encode(text, output_value="token_embeddings"))
    assert encoder.encode(TEXTS[0], output_value=None).keys() == rows[0].keys()


def test_arguments_of_code_written_for_sentence_transformers(folder):
    encoder = SentenceEncoder(folder)
    want = encoder.encode(TEXTS)
    rows = encoder.encode(TEXTS, convert_to_numpy=False, device="cpu")
    assert isinstance(rows, list)
    assert np.array_equal(rows, want)
    with pytest.raises(ValueError, match="device is 'cuda', expected 'cpu'"):
        encoder.encode(TEXTS, device="cuda")
    torch = pytest.importorskip("torch")
    tensor = encoder.encode(TEXTS, convert_to_tensor=True)
    assert isinstance(tensor, torch.Tensor)
    assert np.array_equal(tensor.numpy(), want)
    tokens = encoder.encode(TEXTS, output_value="token_embeddings", convert_to_tensor=True)
    assert [type(states) for states in tokens] == [torch.Tensor] * len(TEXTS)
    whole = encoder.encode(TEXTS, output_value=None, convert_to_tensor=True)
    assert np.array_equal(torch.stack([item["sentence_embedding"] for item in whole]).numpy(), want)
    assert np.array_equal(whole[0]["token_embeddings"].numpy(), tokens[0].numpy())


def test_a_generator_is_read_as_it_is_needed(folder):
    read = []

    def texts():
        for row in range(5000):
            read.append(row)
            yield 3 if row == 1500 else "a b"

    with pytest.raises(TypeError, match=r"sentences\[1500\] is int"):
        SentenceEncoder(folder).encode(texts())
    assert len(read) == 1501


def test_a_generator_of_many(folder):
    encoder = SentenceEncoder(folder)
    got, info = encoder.encode((TEXTS[n % 5] for n in range(3000)), return_info=True)
    assert np.array_equal(got, np.tile(encoder.encode(TEXTS), (600, 1)))
    assert info.texts == 3000


def test_texts_that_are_no_unicode_are_named(folder):
    with pytest.raises(ValueError, match=r"sentences\[70\] holds half of a surrogate pair"):
        SentenceEncoder(folder).encode(["a"] * 70 + ["\ud800"])


def test_a_huge_text(folder):
    """Longer than a window by itself, and cut."""
    text = "b c " * 140_000
    vector, info = SentenceEncoder(folder).encode([text, "a"], return_info=True)
    assert info.truncated.tolist() == [0]
    assert np.array_equal(vector[0], SentenceEncoder(folder).encode("b c " * 11))


# ---- fewer bits


def test_ranges_given_or_learned(folder):
    encoder = SentenceEncoder(folder)
    vectors = encoder.encode(TEXTS)
    ranges = np.stack([vectors.min(0), vectors.max(0)])
    want = encoder.encode(TEXTS, precision="uint8")
    assert (want.min(), want.max(), want.dtype) == (0, 255, np.uint8)
    assert np.array_equal(encoder.encode(TEXTS, precision="uint8", ranges=ranges), want)
    assert np.array_equal(encoder.encode(TEXTS, precision="uint8", calibration_embeddings=vectors), want)
    assert np.array_equal(encoder.encode(TEXTS, precision="int8"), want.astype(int) - 128)
    assert np.array_equal(encoder.encode(TEXTS[1], precision="uint8", ranges=ranges), want[1])
    assert encoder.encode(TEXTS, precision="ubinary", truncate_dim=9).shape == (5, 2)
    assert encoder.encode([], precision="int8").shape == (0, 32)
    assert encoder.encode([], precision="binary").dtype == np.int8


def test_values_beyond_the_ranges_stay_within_a_byte():
    got = quantize_embeddings(np.array([[-9.0, 9.0, 0.5]], np.float32), "int8", ranges=[[0, 0, 0.5], [1, 1, 0.5]])
    assert got.tolist() == [[-128, 127, -128]]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"precision": "int4"}, ValueError, "precision is 'int4', expected one of 'float32', 'int8'"),
        (
            {"precision": "int8", "ranges": np.zeros((2, 3))},
            ValueError,
            r"ranges has shape \(2, 3\), expected \(2, 4\)",
        ),
        *(
            (
                {"precision": "int8", "ranges": np.array(bad)},
                ValueError,
                "ranges has a minimum above its maximum or a NaN",
            )
            for bad in ([[1.0] * 4, [0.0] * 4], [[np.nan] * 4, [1.0] * 4])
        ),
        ({"precision": "int8"}, ValueError, "one embedding alone has no ranges for int8"),
        (
            {"precision": "int8", "calibration_embeddings": np.zeros((0, 4))},
            ValueError,
            r"calibration_embeddings has shape \(0, 4\)",
        ),
        ({"precision": "int8", "embeddings": np.zeros((2, 4), np.int8)}, TypeError, "embeddings holds int8"),
        ({"precision": "int8", "embeddings": np.zeros(4)}, ValueError, r"embeddings has shape \(4,\)"),
    ],
)
def test_wrong_arguments_of_quantizing_are_named(arguments, error, message):
    with pytest.raises(error, match=message):
        quantize_embeddings(**{"embeddings": np.zeros((1, 4), np.float32), **arguments})


# ---- modules with weights


def dense(folder, tensors, **fields):
    config = {"in_features": 32, "out_features": 4, "activation_function": "torch.nn.modules.activation.Tanh"}
    write_files(folder, {}, ("Transformer", "Pooling", "Dense"))
    (folder / "2").mkdir(exist_ok=True)
    (folder / "2" / "config.json").write_text(json.dumps({**config, **fields}))
    write_safetensors(folder / "2" / "model.safetensors", tensors)
    return folder


WEIGHT, BIAS = np.full((4, 32), 0.1, np.float32), np.zeros(4, np.float32)


@pytest.mark.parametrize(
    ("tensors", "fields", "message"),
    [
        ({"linear.weight": WEIGHT}, {}, "tensor 'linear.bias' is missing"),
        ({"linear.weight": WEIGHT.T, "linear.bias": BIAS}, {}, r"has shape \(32, 4\), expected \(4, 32\)"),
        ({"linear.weight": WEIGHT}, {"in_features": 31}, "'in_features' is 31, expected 32, as wide as"),
        ({"linear.weight": WEIGHT}, {"out_features": 0}, "'out_features' is 0, expected a positive integer"),
        ({"linear.weight": WEIGHT}, {"bias": "no"}, "'bias' is \"no\", expected true or false"),
        (
            {"linear.weight": WEIGHT},
            {"bias": False, "activation_function": "os.system"},
            "is 'os.system', expected torch",
        ),
        (
            {"linear.weight": WEIGHT},
            {"module_input_name": "pixels"},
            "'module_input_name' is \"pixels\", expected one of",
        ),
        (
            {"linear.weight": WEIGHT},
            {"module_input_name": "scores"},
            "the module reads 'scores', which no module before it makes",
        ),
    ],
)
def test_a_wrong_dense_is_named(folder, tensors, fields, message):
    with pytest.raises(ValueError, match=message) as caught:
        SentenceEncoder(dense(folder, tensors, **fields))
    assert str(folder / "2") in str(caught.value)


def test_a_pickled_dense_is_refused(folder):
    dense(folder, {"linear.weight": WEIGHT, "linear.bias": BIAS})
    (folder / "2" / "model.safetensors").rename(folder / "2" / "pytorch_model.bin")
    with pytest.raises(FileNotFoundError, match=r"only pytorch_model.bin. That is a pickle, which can run code"):
        SentenceEncoder(folder)


# ---- processes and threads


def test_a_pickle_is_small_and_opens_when_first_used(folder, tmp_path_factory):
    encoder = SentenceEncoder(folder)
    want = encoder.encode(TEXTS)
    content = pickle.dumps(encoder)
    assert len(content) < 1000
    again = pickle.loads(content)
    moved = folder.rename(tmp_path_factory.mktemp("moved") / "checkpoint")
    with pytest.raises(FileNotFoundError):
        again.encode(TEXTS)
    moved.rename(folder)
    assert np.array_equal(again.encode(TEXTS), want)


def test_many_threads_at_once(folder):
    encoder = pickle.loads(pickle.dumps(SentenceEncoder(folder)))  # they also open it at once
    texts = [TEXTS[n % 5] for n in range(200)]
    with ThreadPoolExecutor(6) as pool:
        results = list(pool.map(lambda _: encoder.encode(texts), range(12)))
    want = np.tile(SentenceEncoder(folder).encode(TEXTS), (40, 1))
    assert all(np.array_equal(result, want) for result in results)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of forking beside threads, which is the point
def test_after_fork(folder, tmp_path):
    encoder = SentenceEncoder(folder)
    texts = [TEXTS[n % 5] for n in range(200)]
    want = encoder.encode(texts)
    child = os.fork()
    if child == 0:
        try:
            np.save(tmp_path / "child.npy", encoder.encode(texts))
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    assert np.array_equal(np.load(tmp_path / "child.npy"), want)
    assert np.array_equal(encoder.encode(texts), want)
