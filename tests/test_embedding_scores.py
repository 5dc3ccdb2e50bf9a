"""Rerankers and vectors of tokens: what their methods take and return, the same bits in any company, wrong input."""

import json
import pickle
from dataclasses import replace

import numpy as np
import pytest
from checkpoints import minilm
from embedding_checkpoints import CASES, MULTI, PAIRS, RERANKERS, SCORED, TEXTS, Case, write_case
from tfcore import AutoModel, CrossEncoder, MultiVectorEncoder, SentenceEncoder
from tfcore.embedding import maxsim
from tfcore.models.packing import PackedTokens

MANY = [PAIRS[n % 4] for n in range(150)]
pytestmark = pytest.mark.filterwarnings("ignore:.*had more than max_seq_length")


@pytest.fixture(scope="module")
def reranker(tmp_path_factory):
    return CrossEncoder(write_case(tmp_path_factory.mktemp("reranker"), RERANKERS["reranker"], labels=1))


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    return CrossEncoder(write_case(tmp_path_factory.mktemp("classifier"), SCORED["bert"]))


@pytest.fixture(scope="module", params=["fixed", "pylate-unattended", "min"])
def multi(request, tmp_path_factory):
    return MultiVectorEncoder(write_case(tmp_path_factory.mktemp("multi"), MULTI[request.param]))


# ---- scores of pairs


def test_pairs_of_many_kinds(reranker):
    want = reranker.predict(PAIRS)
    assert want.shape == (4,)
    assert want.dtype == np.float32
    assert np.array_equal(reranker.predict(np.array(PAIRS)), want)
    assert np.array_equal(reranker.predict([list(pair) for pair in PAIRS]), want)
    assert np.array_equal(reranker.predict(pair for pair in PAIRS), want)
    assert reranker.predict(PAIRS[1]) == want[1]
    assert reranker.predict(list(PAIRS[1])).shape == ()
    assert reranker.predict([]).shape == (0,)


def test_what_a_ranking_takes_of_predict(reranker):
    query, documents = PAIRS[0][0], [text for _, text in PAIRS]
    want = reranker.rank(query, documents)
    assert reranker.rank(query, documents, convert_to_numpy=False, batch_size=1) == want
    ranking, info = reranker.rank(query, documents, return_info=True)
    assert ranking == want
    assert len(info.token_counts) == len(documents)


def test_pairs_have_the_same_bits_in_any_company(reranker):
    want = reranker.predict(MANY)
    assert np.array_equal(reranker.predict(MANY, batch_size=1), want)
    assert np.array_equal(reranker.predict(MANY[::-1]), want[::-1])
    assert np.array_equal(pickle.loads(pickle.dumps(reranker)).predict(MANY), want)


def test_a_function_of_torch(reranker):
    torch = pytest.importorskip("torch")
    pairs = [("a", "b"), ("c", "d")]
    logits = reranker.predict(pairs, activation_fn=lambda x: x)
    got = reranker.predict(pairs, activation_fn=torch.nn.Sigmoid())
    assert np.array_equal(got, torch.sigmoid(torch.from_numpy(logits)).numpy())


def test_a_length_from_the_beginning(reranker):
    short = CrossEncoder(reranker.folder, max_length=9, device="cpu")
    assert short.max_seq_length == 9
    with pytest.raises(ValueError, match="max_length is 0, expected a positive integer"):
        CrossEncoder(reranker.folder, max_length=0)
    short.max_length = 7
    assert short.max_seq_length == pickle.loads(pickle.dumps(short)).max_length == 7


def test_what_becomes_of_logits_can_be_set(reranker):
    logits = reranker.predict(PAIRS, activation_fn=np.array)
    later = CrossEncoder(reranker.folder)
    assert np.array_equal(later.activation_fn(logits), reranker.predict(PAIRS))
    later.activation_fn = np.abs
    for encoder in (later, CrossEncoder(reranker.folder, activation_fn=np.abs), pickle.loads(pickle.dumps(later))):
        assert np.array_equal(encoder.predict(PAIRS), np.abs(logits))
    with pytest.raises(TypeError, match="activation_fn is str, expected a function of logits"):
        later.activation_fn = "sigmoid"


def test_prompts_of_pairs_can_be_set(reranker):
    prompted = CrossEncoder(reranker.folder, prompts={"mine": "the "}, default_prompt_name="mine")
    want = reranker.predict([("the " + query, answer) for query, answer in PAIRS])
    assert np.array_equal(prompted.predict(PAIRS), want)


def test_prompts_of_sides_can_be_set(multi):
    other = MultiVectorEncoder(multi.folder, prompts={"query": "two "})
    assert np.array_equal(other.encode_query("cut"), multi.encode_query("cut", prompt="two "))
    other.prompts["document"] = "the "
    assert np.array_equal(other.encode_document("cut"), multi.encode_document("cut", prompt="the "))
    assert multi.prompts["query"] != "two "


def test_several_labels(classifier):
    logits = classifier.predict(PAIRS)
    assert logits.shape == (4, classifier.num_labels)
    odds = np.exp(logits.astype(float))
    assert np.abs(classifier.predict(PAIRS, apply_softmax=True) - odds / odds.sum(1, keepdims=True)).max() <= 1e-6
    assert np.array_equal(classifier.predict(PAIRS, activation_fn=np.abs), np.abs(logits))
    with pytest.raises(ValueError, match="rank takes a checkpoint of one label, and this has 3: use predict"):
        classifier.rank("a", ["b"])


def test_rank(reranker):
    documents = ["cut", "b c", "", "the cuts", "cut"]
    scores = reranker.predict([("the two", document) for document in documents])
    ranked = reranker.rank("the two", documents)
    order = [row["corpus_id"] for row in ranked]
    assert order == sorted(range(5), key=lambda row: (-scores[row], row))
    assert [row["score"] for row in ranked] == [float(scores[row]) for row in order]
    assert reranker.rank("the two", documents, top_k=2) == ranked[:2]
    best = reranker.rank("the two", documents, top_k=1, return_documents=True)
    assert best == [{**ranked[0], "text": documents[order[0]]}]
    assert reranker.rank("the two", []) == []


def test_pairs_that_are_cut_are_told(reranker):
    _, info = reranker.predict([("a", "b"), ("a " * 30, "b")], return_info=True)
    assert info.truncated.tolist() == [1]
    assert info.token_counts.tolist() == [5, 24]


@pytest.mark.parametrize(
    ("inputs", "error", "message"),
    [
        ([("a", "b"), "c"], TypeError, r"inputs\[1\] is str, expected a pair of strings"),
        ([("a", "b", "c")], TypeError, r"inputs\[0\] is tuple of str, str, str, expected a pair of strings"),
        ([("a", None)], TypeError, r"inputs\[0\] is tuple of str, NoneType, expected a pair of strings"),
        (None, TypeError, "inputs is NoneType, expected a pair of strings or several"),
        ([("a", "b"), ("a", "\ud800")], ValueError, r"inputs\[1\] holds half of a surrogate pair"),
    ],
)
def test_wrong_pairs_are_named(reranker, inputs, error, message):
    with pytest.raises(error, match=message):
        reranker.predict(inputs)


def test_wrong_arguments_of_rank_are_named(reranker):
    with pytest.raises(TypeError, match="query is int, expected a string"):
        reranker.rank(3, ["a"])
    for bad in ("b", None):
        with pytest.raises(TypeError, match=f"documents is {type(bad).__name__}, expected a list of strings"):
            reranker.rank("a", bad)
    with pytest.raises(TypeError, match=r"documents\[1\] is NoneType, expected a string"):
        reranker.rank("a", ["b", None])
    with pytest.raises(TypeError, match="activation_fn is str, expected a function"):
        reranker.predict(("a", "b"), activation_fn="sigmoid")
    for wrong in (lambda logits: None, lambda logits: "z", lambda logits: logits[:0]):
        with pytest.raises(ValueError, match=r"activation_fn returned .*, expected numbers \(1, 1\), as it was given"):
            reranker.predict(("a", "b"), activation_fn=wrong)
    with pytest.raises(ValueError, match="top_k is 0"):
        reranker.rank("a", ["b"], top_k=0)


def test_a_wrong_function_is_named(tmp_path):
    folder = write_case(tmp_path, RERANKERS["reranker-of-tanh"], labels=1)
    (folder / "config_sentence_transformers.json").write_text(json.dumps({"activation_fn": "os.system"}))
    with pytest.raises(ValueError, match=r"activation_fn is 'os\.system', expected torch\.nn's Identity"):
        CrossEncoder(folder)


def test_no_classifier(tmp_path):
    with pytest.raises(ValueError, match="modules are Transformer, Pooling, expected a Transformer alone"):
        CrossEncoder(write_case(tmp_path / "pooled", CASES["bert"]))
    with pytest.raises(ValueError, match=r"classifier\.weight"):
        CrossEncoder(write_case(tmp_path / "bare", Case(modules=())))


# ---- vectors of tokens


def test_tokens_have_the_same_bits_in_any_company(multi):
    texts = [TEXTS[n % 5] for n in range(100)]
    for encode in (multi.encode_query, multi.encode_document, multi.encode):
        want = encode(texts)
        assert all(np.array_equal(encode(text), row) for text, row in zip(TEXTS, want[:5], strict=True))
        for got in (encode(texts, batch_size=2), pickle.loads(pickle.dumps(encode))(texts)):
            assert all(np.array_equal(a, b) for a, b in zip(got, want, strict=True))
        assert np.allclose(np.linalg.norm(np.concatenate(want), axis=1), 1, atol=1e-6)
    assert multi.encode([]) == []


def test_what_fills_a_query_is_not_seen(tmp_path):
    """The vectors of a query's own tokens are those without anything that fills it."""
    filled = MultiVectorEncoder(write_case(tmp_path / "filled", MULTI["min"]))
    plain = MultiVectorEncoder(write_case(tmp_path / "plain", MULTI["plain"]))
    for text in TEXTS[:4]:
        want = plain.encode_query(text)
        got = filled.encode_query(text)
        assert len(got) == 12 > len(want)
        assert np.array_equal(got[: len(want)], want)


@pytest.mark.parametrize(
    ("seen", "message"),
    [
        ([3, 4], "seen has 2 entries, expected one a sequence, 1"),
        ([6], "seen holds 6 of a sequence of 5 tokens"),
        ([-1], "seen holds -1 of a sequence of 5 tokens"),
    ],
)
def test_what_is_seen_is_checked(tmp_path, seen, message):
    model = AutoModel.from_pretrained(write_case(tmp_path, CASES["bert"]))
    tokens = PackedTokens.from_texts([[2, 5, 6, 7, 3]])
    whole = model.forward_packed(replace(tokens, seen=np.array([5])))
    assert np.array_equal(whole, model.forward_packed(tokens))
    with pytest.raises(ValueError, match=message):
        model.forward_packed(replace(tokens, seen=np.array(seen)))
    with pytest.raises(ValueError, match="a model for hidden states has no logits of texts"):
        model.classify_packed(tokens)


def test_maxsim_is_its_formula():
    random = np.random.RandomState(0)
    queries = [random.standard_normal((n, 8)).astype(np.float32) for n in (3, 1, 32)]
    documents = [random.standard_normal((n, 8)).astype(np.float32) for n in (5, 0, 1, 9000, 40)]
    got = maxsim(queries, documents)
    assert got.shape == (3, 5)
    for i, query in enumerate(queries):
        for j, document in enumerate(documents):
            products = query.astype(float) @ document.T.astype(float)
            want = products.max(1).sum() if len(document) else 0.0
            assert abs(got[i, j] - want) <= 1e-5 * max(1, abs(want))
    assert np.array_equal(maxsim(queries[0], documents), got[:1])
    assert maxsim([], documents).shape == (0, 5)
    with pytest.raises(ValueError, match="queries and documents are 7 to 8 wide"):
        maxsim(queries, [np.zeros((2, 7), np.float32)])
    with pytest.raises(ValueError, match=r"queries\[0\] has shape \(8,\), expected \(tokens, dim\)"):
        maxsim([np.zeros(8, np.float32)], documents)


def test_mean_maxsim_counts_a_querys_tokens(tmp_path):
    """Of queries that come one by one, too."""
    options = MULTI["plain"].options | {"similarity_fn_name": "meanmaxsim"}
    encoder = MultiVectorEncoder(write_case(tmp_path, replace(MULTI["plain"], options=options)))
    queries, documents = encoder.encode_query(["cut", "the two cuts", "b"]), encoder.encode_document(["b c", "a"])
    want = maxsim(queries, documents) / np.array([[len(query)] for query in queries], np.float32)
    assert np.array_equal(encoder.similarity(queries, documents), want)
    assert np.array_equal(encoder.similarity(iter(queries), iter(documents)), want)
    assert np.array_equal(encoder.similarity(queries[1], documents), want[1:2])


def test_the_side_of_texts_can_be_an_argument(multi):
    for task, method in (("query", multi.encode_query), ("document", multi.encode_document)):
        assert np.array_equal(multi.encode("the cut, b", task=task), method("the cut, b"))
    with pytest.raises(ValueError, match="task is 'answer', expected one of 'query', 'document', None"):
        multi.encode("cut", task="answer")
    with pytest.raises(TypeError, match=r"encode\(\) got an unexpected keyword argument 'side'"):
        multi.encode_query("cut", side="query")


@pytest.mark.filterwarnings("default:.*had more than max_seq_length")
@pytest.mark.parametrize("method", ["encode", "encode_query", "encode_document"])
def test_the_warning_names_the_callers_line(tmp_path, method):
    encoder = MultiVectorEncoder(write_case(tmp_path, MULTI["plain"]))
    with pytest.warns(UserWarning, match="more than max_seq_length") as caught:
        getattr(encoder, method)("b " * 60)
    assert caught[0].filename == __file__


def test_vectors_of_tokens_as_tensors(multi):
    torch = pytest.importorskip("torch")
    tensors, arrays = multi.encode(["cut", "b c"], convert_to_numpy=False), multi.encode(["cut", "b c"])
    for tensor, array in zip(tensors, arrays, strict=True):
        assert isinstance(tensor, torch.Tensor)
        assert np.array_equal(tensor.numpy(), array)


def test_each_kind_of_checkpoint_names_the_other(tmp_path):
    with pytest.raises(ValueError, match=r"no MultiVectorMask among the modules.*expected a multi-vector checkpoint"):
        MultiVectorEncoder(minilm())
    with pytest.raises(ValueError, match="MultiVectorEncoder opens checkpoints of one vector a token"):
        SentenceEncoder(write_case(tmp_path, MULTI["pylate"]))


@pytest.mark.parametrize(
    ("expansion", "message"),
    [
        ({"strategy": "most", "length": 9}, "'strategy' is \"most\", expected one of fixed, min"),
        ({"strategy": "min", "length": 0}, "'length' is 0, expected a positive integer"),
        ({"strategy": "min", "length": 9, "token": "wordy"}, "token is 'wordy', expected one that the tokenizer has"),
        ([3], "'query_expansion' is .3., expected an object"),
    ],
)
def test_a_wrong_expansion_is_named(tmp_path, expansion, message):
    folder = write_case(tmp_path, MULTI["min"])
    (folder / "sentence_bert_config.json").write_text(json.dumps({"query_expansion": expansion}))
    with pytest.raises(ValueError, match=message):
        MultiVectorEncoder(folder)


@pytest.mark.parametrize(("text", "error"), [(3, TypeError), ("\ud800", ValueError)])
def test_wrong_texts_are_named(multi, text, error):
    with pytest.raises(error, match=r"sentences\[1\]"):
        multi.encode_query(["a", text])
