"""Sentence vectors: pooled as the checkpoint's files say, and the same bits in any company."""

import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import tfcore
from checkpoints import CONFIG, minilm, write_bert
from tfcore import AutoModel, AutoTokenizer, SentenceEncoder

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
    library = pytest.importorskip("sentence_transformers")
    theirs = library.SentenceTransformer(str(minilm()), device="cpu")
    texts = ["Understanding Transformers!", "", "word " * 700, "naïve café 東京", "  Two  spaces "]
    assert np.abs(encoder.encode(texts) - theirs.encode(texts)).max() <= 1e-5
    assert np.abs(encoder.encode(texts, prompt="query: ") - theirs.encode(texts, prompt="query: ")).max() <= 1e-5


def test_what_the_files_say(encoder):
    assert encoder.max_seq_length == 256
    assert encoder.dimension == 384
    long = "word " * 700
    assert np.array_equal(encoder.encode(long), encoder.encode(long[: 5 * 254]))
    assert not np.array_equal(encoder.encode(long), encoder.encode(long[: 5 * 250]))


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
    assert np.abs(encoder.encode("The TWO cut") - want).max() <= 1e-6
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
        ({"sentences": 3}, TypeError, "not iterable"),
        ({"batch_size": 0}, ValueError, "batch_size is 0, expected a positive integer"),
        ({"batch_size": 2.0}, ValueError, "batch_size is 2.0"),
        ({"truncate_dim": 33}, ValueError, "truncate_dim is 33, expected a positive integer up to 32"),
        ({"truncate_dim": -1}, ValueError, "truncate_dim is -1"),
        ({"output_value": "tokens"}, ValueError, "output_value is 'tokens', expected 'sentence_embedding'"),
    ],
)
def test_wrong_arguments_are_named(folder, arguments, error, message):
    with pytest.raises(error, match=message):
        SentenceEncoder(folder).encode(**{"sentences": TEXTS, **arguments})


@pytest.mark.parametrize(
    ("pooling", "kinds", "files", "message"),
    [
        ({}, ("Transformer", "Pooling", "Dense"), {}, "modules are Transformer, Pooling, Dense, expected Transformer"),
        ({}, ("Pooling",), {}, "modules are Pooling, expected"),
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
            {"default_prompt_name": "query", "prompts": {}},
            "default_prompt_name is 'query', which prompts does not hold",
        ),
    ],
)
def test_a_wrong_option_is_named(folder, options, message):
    encoder = SentenceEncoder(write_files(folder, {}, config_sentence_transformers=options))
    with pytest.raises(ValueError, match=message):
        encoder.similarity(encoder.encode(TEXTS), np.zeros((1, CONFIG["hidden_size"])))
