"""Vectors and scores of whole checkpoints, as sentence-transformers makes them: recorded, and live where installed."""

from dataclasses import replace

import numpy as np
import pytest
import tfcore
from embedding_checkpoints import CASES, GOLDEN, MULTI, PAIRS, RERANKERS, SCORED, TEXTS, write_case
from tfcore import CrossEncoder, MultiVectorEncoder, SentenceEncoder
from tfcore.embedding import quantize_embeddings

BOUND = 1e-5
GATHERED = np.load(GOLDEN)
pytestmark = pytest.mark.filterwarnings("ignore:.*had more than max_seq_length")


def close(got, want):
    assert got.shape == want.shape
    assert got.dtype == want.dtype
    assert np.abs(got - want).max(initial=0) <= BOUND * max(1, np.abs(want).max(initial=0))


@pytest.mark.parametrize("name", CASES)
def test_vectors(name, tmp_path):
    encoder = SentenceEncoder(write_case(tmp_path, CASES[name]))
    vectors = encoder.encode(TEXTS)
    close(vectors, GATHERED[f"encode.{name}"])
    assert vectors.shape[1] == encoder.dimension == encoder.get_embedding_dimension()
    if f"query.{name}" in GATHERED:
        close(encoder.encode_query(TEXTS), GATHERED[f"query.{name}"])
        close(encoder.encode_document(TEXTS), GATHERED[f"document.{name}"])
    if f"similarity.{name}" in GATHERED:
        close(encoder.similarity(vectors, vectors[:2]), GATHERED[f"similarity.{name}"])
        close(encoder.similarity_pairwise(vectors, vectors[::-1]), GATHERED[f"pairwise.{name}"])


@pytest.mark.parametrize(
    "name", ["bert", "modernbert", "qwen3", "gemma3", "t5", "dense-norm-normalize", "activation-gelu"]
)
def test_vectors_have_the_same_bits_in_any_company(name, tmp_path):
    encoder = SentenceEncoder(write_case(tmp_path, CASES[name]))
    texts = [TEXTS[n % 5] for n in range(150)]
    want = np.tile(np.stack([encoder.encode(text) for text in TEXTS]), (30, 1))
    assert np.array_equal(encoder.encode(texts), want)
    assert np.array_equal(encoder.encode(texts[::-1], batch_size=7), want[::-1])
    with tfcore.num_threads(3):
        assert np.array_equal(encoder.encode(texts, batch_size=64), want)


@pytest.mark.parametrize("name", SCORED)
def test_scores(name, tmp_path):
    close(CrossEncoder(write_case(tmp_path, SCORED[name])).predict(PAIRS), GATHERED[f"scores.{name}"])


@pytest.mark.parametrize("name", RERANKERS)
def test_scores_of_one_label(name, tmp_path):
    encoder = CrossEncoder(write_case(tmp_path, RERANKERS[name], labels=1))
    close(encoder.predict(PAIRS), GATHERED[f"scores.{name}"])


@pytest.mark.parametrize("name", MULTI)
def test_vectors_of_tokens(name, tmp_path):
    encoder = MultiVectorEncoder(write_case(tmp_path, MULTI[name]))
    sides = encoder.encode_query(TEXTS), encoder.encode_document(TEXTS)
    for side, rows in zip(("query", "document"), sides, strict=True):
        assert [len(row) for row in rows] == GATHERED[f"{side}-lengths.{name}"].tolist()
        close(np.concatenate(rows), GATHERED[f"{side}-tokens.{name}"])
    assert np.abs(encoder.similarity(*sides) - GATHERED[f"maxsim.{name}"]).max() <= 2 * BOUND


@pytest.mark.parametrize("precision", ["int8", "uint8", "binary", "ubinary"])
def test_few_bits(precision, tmp_path):
    """The recorded vectors give the recorded bytes; our own may be one step off, where a value is at an edge."""
    want = GATHERED[f"precision.{precision}"]
    got = quantize_embeddings(GATHERED["encode.bert"], precision)
    assert got.dtype == want.dtype
    assert np.array_equal(got, want)
    ours = SentenceEncoder(write_case(tmp_path, CASES["bert"])).encode(TEXTS, precision=precision)
    assert ours.dtype == want.dtype
    assert np.abs(ours.astype(int) - want).max() <= (1 if "int" in precision else 0)


def test_what_is_recorded_can_differ():
    """Modules, prompts and sides change the recorded vectors: a reader that ignored one would fail above."""
    kept = [GATHERED[key].tobytes() for key in GATHERED.files if key.startswith("encode.")]
    assert len(set(kept)) >= len(kept) - 4  # a few modes do not see the prompt, or see the same token
    assert not np.array_equal(GATHERED["query-tokens.fixed"], GATHERED["query-tokens.fixed-attended"])


@pytest.mark.filterwarnings("ignore")
def test_live_beside_sentence_transformers(tmp_path):
    library = pytest.importorskip("sentence_transformers", exc_type=ImportError)
    for name in ("bert", "qwen3", "t5", "pooling-weightedmean-without-prompt", "dense-norm-normalize", "settings"):
        folder = write_case(tmp_path / name, CASES[name])
        theirs, ours = library.SentenceTransformer(str(folder), device="cpu"), SentenceEncoder(folder)
        close(ours.encode(TEXTS), theirs.encode(TEXTS))
        close(
            ours.encode_query(TEXTS, normalize_embeddings=True), theirs.encode_query(TEXTS, normalize_embeddings=True)
        )
        options = {"prompt": "a b", "truncate_dim": 9, "normalize_embeddings": True}
        close(ours.encode(TEXTS, **options), theirs.encode(TEXTS, **options))
    folder = write_case(tmp_path / "reranker", RERANKERS["reranker"], labels=1)
    theirs, ours = library.CrossEncoder(str(folder), device="cpu"), CrossEncoder(folder)
    documents = [second for _, second in PAIRS]
    ranked = [encoder.rank("the two", documents, return_documents=True) for encoder in (theirs, ours)]
    for their_row, our_row in zip(*ranked, strict=True):
        assert abs(their_row.pop("score") - our_row.pop("score")) <= BOUND
        assert their_row == our_row
    options = MULTI["fixed"].options | {"similarity_fn_name": "meanmaxsim"}
    folder = write_case(tmp_path / "multi", replace(MULTI["fixed"], options=options))
    theirs, ours = library.MultiVectorEncoder(str(folder), device="cpu"), MultiVectorEncoder(folder)
    sides = [
        [encoder.encode_query(TEXTS, convert_to_numpy=True), encoder.encode_document(TEXTS, convert_to_numpy=True)]
        for encoder in (theirs, ours)
    ]
    for their_side, our_side in zip(*sides, strict=True):
        for their_row, our_row in zip(their_side, our_side, strict=True):
            close(our_row, their_row)
    close(ours.similarity(*sides[1]), theirs.similarity(*sides[0]).numpy())
