"""Records what sentence-transformers makes of the checkpoints of embedding_checkpoints.py: golden/embeddings.npz.

Vectors of every text, some also as query and as document, similarities, vectors in few bits, scores
of pairs, and tokens' vectors end to end with their number.

Run with sentence-transformers installed:  python tests/golden/make_embeddings.py
"""

import sys
import tempfile
from pathlib import Path

import numpy as np
from sentence_transformers import CrossEncoder, MultiVectorEncoder, SentenceTransformer

sys.path.insert(0, str(Path(__file__).parent.parent))
from embedding_checkpoints import (
    CASES,
    GOLDEN,
    MULTI,
    PAIRS,
    RERANKERS,
    SCORED,
    TEXTS,
    write_case,
)


def main() -> None:
    root = Path(tempfile.mkdtemp())
    found: dict[str, np.ndarray] = {}
    for name, case in CASES.items():
        model = SentenceTransformer(str(write_case(root / name, case)), device="cpu")
        found[f"encode.{name}"] = vectors = model.encode(TEXTS)
        if name.startswith("pooling-mean-"):
            found[f"query.{name}"] = model.encode_query(TEXTS)
            found[f"document.{name}"] = model.encode_document(TEXTS)
        if "similarity_fn_name" in case.options or name == "bert":
            found[f"similarity.{name}"] = model.similarity(vectors, vectors[:2]).numpy()
            found[f"pairwise.{name}"] = model.similarity_pairwise(vectors, vectors[::-1].copy()).numpy()
    for precision in ("int8", "uint8", "binary", "ubinary"):
        found[f"precision.{precision}"] = SentenceTransformer(str(root / "bert"), device="cpu").encode(
            TEXTS, precision=precision
        )
    for name, case in SCORED.items():
        model = CrossEncoder(str(write_case(root / f"scored-{name}", case)), device="cpu")
        found[f"scores.{name}"] = model.predict(PAIRS)
    for name, case in RERANKERS.items():
        model = CrossEncoder(str(write_case(root / name, case, labels=1)), device="cpu")
        found[f"scores.{name}"] = model.predict(PAIRS)
    for name, case in MULTI.items():
        model = MultiVectorEncoder(str(write_case(root / f"multi-{name}", case)), device="cpu")
        for side in ("query", "document"):
            rows = getattr(model, f"encode_{side}")(TEXTS, convert_to_numpy=True)
            found[f"{side}-tokens.{name}"] = np.concatenate(rows)
            found[f"{side}-lengths.{name}"] = np.array([len(row) for row in rows])
        sides = model.encode_query(TEXTS, convert_to_numpy=True), model.encode_document(TEXTS, convert_to_numpy=True)
        found[f"maxsim.{name}"] = model.similarity(*sides).numpy()
    np.savez_compressed(GOLDEN, **found)
    print(f"{GOLDEN}: {len(found)} arrays, {GOLDEN.stat().st_size} bytes")


if __name__ == "__main__":
    main()
