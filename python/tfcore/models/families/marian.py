"""Marian (Junczys-Dowmunt et al. 2018), in which Opus-MT translates: BART with sinusoids for positions."""

from dataclasses import replace

from ..architecture import Architecture, Embeddings, HeadSpec
from ..config import Config
from ..family import Family
from .bart import BART, PARTS, SEQ2SEQ_HEAD, embedding_scale, stack
from .common import start_token

_MOST_POSITIONS = 1 << 20  # whose sinusoids are computed when a model is opened


def describe(config: Config) -> Architecture:
    for field, value in {"normalize_embedding": False, "static_position_embeddings": True}.items():
        config.expect(field, value)
    words, width = config.positive_int("vocab_size"), config.positive_int("d_model")
    positions = config.positive_int("max_position_embeddings", default=1024)
    if positions > _MOST_POSITIONS:
        raise ValueError(
            f"{config.path}: field 'max_position_embeddings' is {positions}, expected at most {_MOST_POSITIONS}"
        )
    written = config.positive_int("decoder_vocab_size", default=words)
    embeddings = Embeddings(
        vocabulary=words,
        width=width,
        scale=embedding_scale(config),
        positions=positions,
        sinusoidal=True,
    )
    return Architecture(
        encoder=stack(config, "encoder", embeddings),
        decoder=stack(config, "decoder", replace(embeddings, vocabulary=written)),
        heads={"seq2seq_lm": HeadSpec("all", written, tied=config.flag("tie_word_embeddings", default=True))},
        start=start_token(config, written, default=58100),
    )


MARIAN = Family(
    model_type="marian",
    describe=describe,
    parts=PARTS,
    heads={"seq2seq_lm": SEQ2SEQ_HEAD},
    prefixes=BART.prefixes,
    aliases=BART.aliases,
    ignored=(*BART.ignored, r"(encoder|decoder)\.embed_positions\.weight"),  # sinusoids, which are computed
)
