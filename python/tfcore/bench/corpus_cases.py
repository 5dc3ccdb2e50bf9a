"""Cases of embedding text, from strings to vectors: a corpus of real paragraphs, and one short sentence."""

from __future__ import annotations

from collections.abc import Callable

from .corpus import Corpus, corpus, paragraphs
from .harness import Case, Contest, Prepare

__all__ = ["embed", "embed_sentence"]

_SENTENCE = "How do I reset my password?"
_BOUND = 1e-4  # of vectors of length 1
_PEERS: dict[str, Callable[[Corpus], Prepare]] = {
    "sentence-transformers": lambda texts: texts.sentence_transformers,
    "onnxruntime": lambda texts: texts.onnxruntime,
}


def embed(count: int, peer: str) -> Case:
    """So many paragraphs, tokenized and embedded, beside one peer: a case has one target, and peers have one each."""

    def make() -> Contest:
        texts = corpus(paragraphs(count))
        rivals = {"tfcore": texts.tfcore, peer: _PEERS[peer](texts)}
        return Contest(rivals, texts.want, _BOUND, work=texts.flops)

    return Case(f"MiniLM-L6 embeds {count} paragraphs beside {peer}", "corpus", make, limit="fma_float32")


def embed_sentence() -> Case:
    """The time to one vector, where overhead and the tokenizer count."""

    def make() -> Contest:
        text = corpus((_SENTENCE,))
        rivals = {"tfcore": text.tfcore, "onnxruntime": text.onnxruntime}
        return Contest(rivals, text.want, _BOUND, work=text.flops)

    return Case("MiniLM-L6 embeds one sentence", "corpus", make)
