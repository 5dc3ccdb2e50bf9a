"""Decoders and encoder-decoders beyond their recordings: padding, checkpoints as they are found, variants, refusals."""

from __future__ import annotations

import dataclasses
import json
import re

import family_checkpoints
import numpy as np
import pytest
import tfcore
from closeness import assert_close, assert_same_bits
from tfcore.models.config import Config
from tfcore.models.families import FAMILIES
from tfcore.models.families.common import FULL, SLIDING

LLAMA = {
    "vocab_size": 64,
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 40,
    "max_position_embeddings": 64,
}
GPT2 = {"vocab_size": 64, "n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": 64}
T5 = {"vocab_size": 64, "d_model": 32, "d_kv": 8, "d_ff": 40, "num_layers": 2, "num_heads": 4}
YARN = {"rope_scaling": {"rope_type": "yarn", "factor": 2.0, "original_max_position_embeddings": 32}}
NEOX = {key: value for key, value in LLAMA.items() if key != "num_key_value_heads"}
BART = {
    "vocab_size": 64,
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 1,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 24,
    "decoder_ffn_dim": 40,
    "max_position_embeddings": 64,
}
MARIAN = BART | {"pad_token_id": 63, "decoder_start_token_id": 63, "eos_token_id": 0}
FACTORS = {"short_factor": [1.0, 1.1, 1.3, 1.6], "long_factor": [1.5, 2.0, 3.0, 4.0]}


def describe(model_type, fields):
    return FAMILIES[model_type].read(Config({"model_type": model_type} | fields, "config.json"))


def opened(folder, recording, weights=None, **fields):
    """The recording's model, with other tensors or fields of its config."""
    recording = dataclasses.replace(recording, config=recording.config | fields)
    family_checkpoints.write_checkpoint(folder, recording, weights)
    return getattr(tfcore, recording.auto_class).from_pretrained(folder)


def weights_of(recording):
    return family_checkpoints.tensors(recording.shapes, recording.seed, recording.sinusoids)


# --- what generate does where nothing is said ----------------------------------------------------------------------


def test_padding_tokens_are_padding_without_a_mask(tmp_path):
    """As in Transformers: for a decoder, where the token does not also end texts."""
    model = opened(tmp_path, family_checkpoints.load("llama.causal_lm"))
    ids = np.array([[0, 0, 7, 8], [5, 6, 7, 8]])
    options = {"max_new_tokens": 6, "eos_token_id": None}
    masked = model.generate(ids, ids != 0, pad_token_id=0, **options)
    assert np.array_equal(model.generate(ids, pad_token_id=0, **options), masked)
    read = model.generate(ids, np.ones_like(ids), pad_token_id=0, **options)
    assert not np.array_equal(read, masked)
    assert np.array_equal(model.generate(ids, pad_token_id=0, **options | {"eos_token_id": [0, 1]})[0, :5], read[0, :5])
    only = np.array([[0, 0, 0, 0], [5, 6, 7, 8]])  # a text of padding tokens alone, as where it also begins texts
    assert np.array_equal(
        model.generate(only, pad_token_id=0, **options),
        model.generate(only, np.ones_like(only), pad_token_id=0, **options),
    )
    with pytest.raises(ValueError, match="input_ids"):
        model.generate(only[0], pad_token_id=0)
    streamed = [step.tokens for step in model.stream(ids, pad_token_id=0, **options)]
    assert np.array_equal(np.stack(streamed, axis=1), masked[:, 4:])


@pytest.mark.parametrize("name", ["gpt2.causal_lm", "llama.causal_lm"])
def test_the_default_length_ends_where_positions_do(tmp_path, name):
    recording = family_checkpoints.load(name)
    model = opened(tmp_path, recording)
    positions = model._positions
    prompt = [[7, 8, 9, 10, 11] * (positions // 5)]
    assert model.generate([[7, 8]], eos_token_id=None).shape == (1, 22)
    assert model.generate([prompt[0][: positions - 3]], eos_token_id=None).shape == (1, positions)


def test_a_decoder_that_reads_both_ways_does_not_write(tmp_path):
    model = opened(tmp_path, family_checkpoints.load("llama.causal_lm"), is_causal=False)
    logits = model([[7, 8, 9]]).logits
    assert not np.array_equal(model([[7, 8, 10]]).logits[0, 0], logits[0, 0])
    with pytest.raises(ValueError, match="field 'is_causal' is false: the model reads both ways"):
        model.generate([[7, 8]])


def test_arguments_of_code_written_for_transformers(tmp_path):
    model = opened(tmp_path, family_checkpoints.load("llama.causal_lm"))
    (tmp_path / "generation_config.json").write_text('{"eos_token_id": 3, "max_new_tokens": 2}')
    want = model.generate([[7, 8]], max_new_tokens=5, eos_token_id=3)
    neutral = {
        "logits_processor": [],
        "stopping_criteria": [],
        "output_scores": False,
        "return_dict_in_generate": False,
        "output_hidden_states": False,
        "cache_implementation": "static",
        "prefix_allowed_tokens_fn": None,
    }
    assert np.array_equal(model.generate(inputs=[[7, 8]], max_new_tokens=5, **neutral), want)
    assert np.array_equal(model.generate([[7, 8]], generation_config={"max_new_tokens": 5}), want)
    assert model.generate([[7, 8]], generation_config={"max_new_tokens": 5}, max_new_tokens=1).shape == (1, 3)
    with pytest.raises(ValueError, match=r"input_ids\[0\] holds -2, expected token ids from 0 on"):
        model.generate([[7, -2]])
    assert_same_bits(model([[7, 8]], use_cache=False).logits, model([[7, 8]]).logits)
    assert model.cpu() is model
    with pytest.raises(TypeError, match="input_ids and inputs are both given"):
        model.generate([[7, 8]], inputs=[[7, 8]])
    with pytest.raises(TypeError, match="generation_config is int, expected a GenerationConfig or a dict"):
        model.generate([[7, 8]], generation_config=5)
    with pytest.raises(ValueError, match=r"stopping_criteria is .*not implemented"):
        model.generate([[7, 8]], stopping_criteria=[print])


def test_settings_of_transformers_in_one_object(tmp_path):
    transformers = pytest.importorskip("transformers")
    model = opened(tmp_path, family_checkpoints.load("llama.causal_lm"))
    config = transformers.GenerationConfig(max_new_tokens=5, num_beams=2)
    want = model.generate([[7, 8]], max_new_tokens=5, num_beams=2)
    assert np.array_equal(model.generate([[7, 8]], generation_config=config), want)


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ('{"temperature": "x"}', "temperature is 'x', expected a non-negative number"),
        ('{"temperature": 1' + "0" * 400 + "}", "temperature is beyond float64"),
        ('{"eos_token_id": 4294967296}', "eos_token_id is 4294967296, expected a token id or several"),
    ],
)
def test_a_checkpoints_wrong_settings_are_told_from_the_callers(tmp_path, said, message):
    model = opened(tmp_path, family_checkpoints.load("llama.causal_lm"))
    (tmp_path / "generation_config.json").write_text(said)
    with pytest.raises(ValueError, match=f"{tmp_path}: the checkpoint's generation settings: {message}"):
        model.generate([[7, 8]], max_new_tokens=2)
    with pytest.raises(ValueError, match=r"^max_new_tokens is -1"):
        model.generate([[7, 8]], max_new_tokens=-1)


def test_settings_by_which_checkpoints_say_none(tmp_path):
    model = opened(tmp_path, family_checkpoints.load("llama.causal_lm"))
    (tmp_path / "generation_config.json").write_text('{"eos_token_id": -1, "top_k": -1}')
    assert np.array_equal(
        model.generate([[7, 8]], max_new_tokens=8), model.generate([[7, 8]], max_new_tokens=8, eos_token_id=None)
    )
    assert model.generate([[7, 8]], max_new_tokens=3, do_sample=True, seed=1).shape == (1, 5)


def test_a_checkpoint_without_a_padding_token(tmp_path):
    model = opened(tmp_path, family_checkpoints.load("llama.causal_lm"), pad_token_id=-1)
    assert model.generate([[7, 8]], max_new_tokens=2, eos_token_id=None).shape == (1, 4)
    with pytest.raises(ValueError, match="pad_token_id is -1, expected a token id"):
        model.generate([[7, 8]], max_new_tokens=2, pad_token_id=-1)


@pytest.mark.parametrize(
    ("name", "fields", "message"),
    [
        ("llama.base", {"head_dim": 10**12}, "the head size is 1000000000000, expected at most 65536"),
        ("llama.base", {"partial_rotary_factor": 1.5}, "partial_rotary_factor is 1.5, expected a share of the head"),
        (
            "bart.base",
            {"decoder_start_token_id": "x"},
            """field 'decoder_start_token_id' is "x", expected a token's id""",
        ),
        ("t5.base", {"architectures": -1}, "field 'architectures' is -1, expected a list of strings"),
    ],
)
def test_fields_of_another_kind(tmp_path, name, fields, message):
    with pytest.raises(ValueError, match=f"config.json: .*{message}"):
        opened(tmp_path, family_checkpoints.load(name), **fields)


# --- padding ---------------------------------------------------------------------------------------------------------

PADDED = [
    "gpt2.base",
    "gpt_neox.base",
    "llama.base",
    "llama-dynamic.base",
    "mistral.base",
    "qwen2.base",
    "qwen3.base",
    "gemma3.base",
    "phi3.base",
    "phi3-longrope-beyond.base",
    "t5.base",
    "bart.base",
    "marian.base",
]


@pytest.mark.parametrize("name", PADDED)
@pytest.mark.parametrize("side", ["right", "left"])
def test_padding_changes_no_bit(tmp_path, name, side):
    """Nor do neighbours, also where rotations follow a text's length."""
    recording = family_checkpoints.load(name)
    model = opened(tmp_path, recording)
    inputs, mask = recording.padded(side)
    whole = {key: value[:1] for key, value in recording.whole().items()}
    got = model(**inputs, output_hidden_states=True).last_hidden_state
    for row, alone in enumerate((whole, recording.short())):
        assert_same_bits(got[row][mask[row] == 1], model(**alone).last_hidden_state[0], f"row {row}")
    assert not got[mask == 0].any()


def test_weights_of_a_batch_with_several_rotations(tmp_path):
    """Hidden states and attention weights come back in their places when a batch takes several passes."""
    recording = family_checkpoints.load("phi3-longrope.base")  # trained for 16 positions
    model = opened(tmp_path, recording)
    texts = [np.random.RandomState(n).randint(5, 60, n) for n in (20, 3, 16, 17)]
    ids, mask = np.zeros((4, 20), int), np.zeros((4, 20), int)
    for row, text in enumerate(texts):
        ids[row, : len(text)], mask[row, : len(text)] = text, 1
    batch = model(ids, mask, output_hidden_states=True, output_attentions=True)
    for row, text in enumerate(texts):
        alone, n = model(text[None], output_hidden_states=True, output_attentions=True), len(text)
        for got, want in zip(batch.hidden_states, alone.hidden_states, strict=True):
            assert_same_bits(got[row, :n], want[0])
        for got, want in zip(batch.attentions, alone.attentions, strict=True):
            assert_same_bits(got[row, :, :n, :n], want[0])
            assert not got[row, :, n:].any()
            assert not got[row, :, :, n:].any()


@pytest.mark.parametrize("name", ["gpt2", "llama", "gemma3"])
def test_a_classifier_reads_the_last_token_that_is_no_pad_token(tmp_path, name):
    """As Transformers does, which finds it by the token, not by the mask."""
    recording = family_checkpoints.load(f"{name}.sequence_classification")
    model, pad = opened(tmp_path, recording), recording.config["pad_token_id"]
    text = recording.short()["input_ids"]
    want = model(text).logits
    assert_same_bits(model(np.pad(text, [(0, 0), (0, 3)], constant_values=pad)).logits, want)
    assert_same_bits(model(np.full((1, 4), pad)).logits, model([[pad]]).logits, "nothing but pad tokens")


# --- checkpoints as they are found -----------------------------------------------------------------------------------


def without_prefix(tensors):
    return {name.split(".", 1)[1] if name.split(".")[0] in PREFIXES else name: w for name, w in tensors.items()}


PREFIXES = ("transformer", "model", "gpt_neox")
FLOATS = np.ones((1, 1, 4, 4), np.float32)
BUFFERS = {  # which old versions saved
    "gpt2.causal_lm": {
        "transformer.h.0.attn.bias": FLOATS,
        "transformer.h.1.attn.masked_bias": np.float32(-1e4) * np.ones((), np.float32),
    },
    "gpt_neox.causal_lm": {
        "gpt_neox.layers.0.attention.bias": FLOATS,
        "gpt_neox.layers.0.attention.masked_bias": np.ones((), np.float32),
        "gpt_neox.layers.1.attention.rotary_emb.inv_freq": np.ones(4, np.float32),
    },
    "llama.causal_lm": {
        "model.layers.0.self_attn.rotary_emb.inv_freq": np.ones(4, np.float32),
        "model.rotary_emb.inv_freq": np.ones(4, np.float32),
    },
    "t5.seq2seq_lm": {
        "decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight": np.ones((8, 4), np.float32)
    },
    "bart.seq2seq_lm": {
        "model.encoder.version": np.ones(1, np.float32),
        "model.decoder.version": np.ones(1, np.float32),
    },
    "marian.seq2seq_lm": {
        "model.encoder.embed_positions.weight": np.ones((32, 32), np.float32),
        "model.decoder.embed_positions.weight": np.ones((32, 32), np.float32),
    },
}
TIED = {  # further names of the words' table
    "gpt2.causal_lm": ("transformer.wte.weight", ["lm_head.weight"]),
    "llama-tied.causal_lm": ("model.embed_tokens.weight", ["lm_head.weight"]),
    "gpt_neox-sequential.causal_lm": ("gpt_neox.embed_in.weight", ["embed_out.weight"]),
    "t5.seq2seq_lm": (
        "shared.weight",
        ["encoder.embed_tokens.weight", "decoder.embed_tokens.weight"],
    ),
    "bart.seq2seq_lm": (
        "model.shared.weight",
        ["model.encoder.embed_tokens.weight", "model.decoder.embed_tokens.weight", "lm_head.weight"],
    ),
    "marian.seq2seq_lm": (
        "model.shared.weight",
        ["model.encoder.embed_tokens.weight", "model.decoder.embed_tokens.weight", "lm_head.weight"],
    ),
}


def expect_recorded(model, recording):
    for name, want in recording.outputs("whole").items():
        if name == "logits":
            assert_close(model(**recording.whole()).logits, want, bound=2e-5 * want.std(), dtype=np.float32)


@pytest.mark.parametrize("name", BUFFERS)
def test_buffers_of_old_versions_are_left_aside(tmp_path, name):
    recording = family_checkpoints.load(name)
    expect_recorded(opened(tmp_path, recording, weights_of(recording) | BUFFERS[name]), recording)


@pytest.mark.parametrize("name", ["gpt2.causal_lm", "gpt_neox.causal_lm", "llama.causal_lm", "bart.seq2seq_lm"])
def test_names_without_their_prefix(tmp_path, name):
    recording = family_checkpoints.load(name)
    expect_recorded(opened(tmp_path, recording, without_prefix(weights_of(recording))), recording)


@pytest.mark.parametrize("name", TIED)
def test_a_tied_table_saved_under_all_its_names(tmp_path, name):
    recording, (table, others) = family_checkpoints.load(name), TIED[name]
    weights = weights_of(recording)
    expect_recorded(opened(tmp_path, recording, weights | dict.fromkeys(others, weights[table])), recording)


def test_a_stored_head_is_used_whatever_the_config_says(tmp_path):
    recording = family_checkpoints.load("llama-tied.causal_lm")
    weights, ids = weights_of(recording), recording.whole()["input_ids"]
    tied = opened(tmp_path / "tied", recording)(ids).logits
    twice = weights | {"lm_head.weight": 2 * weights["model.embed_tokens.weight"]}
    assert_same_bits(opened(tmp_path / "own", recording, twice)(ids).logits, 2 * tied)


def test_a_table_under_the_encoders_and_decoders_names_alone(tmp_path):
    for name, prefix in {"t5.seq2seq_lm": "", "bart.seq2seq_lm": "model."}.items():
        recording = family_checkpoints.load(name)
        weights = weights_of(recording)
        table = weights.pop(f"{prefix}shared.weight")
        weights |= {f"{prefix}{role}.embed_tokens.weight": table for role in ("encoder", "decoder")}
        expect_recorded(opened(tmp_path / name, recording, weights), recording)


def test_logits_without_a_stored_bias(tmp_path):
    recording = family_checkpoints.load("bart.seq2seq_lm")
    weights = weights_of(recording)
    bias = weights.pop("final_logits_bias")
    want = recording.outputs("whole")["logits"]
    got = opened(tmp_path, recording, weights)(**recording.whole()).logits + bias
    assert_close(got, want, bound=2e-5 * want.std(), dtype=np.float32)


def test_any_model_opens_from_the_language_models_checkpoint(tmp_path):
    for name in ("gpt2.causal_lm", "gpt_neox.causal_lm", "mistral.causal_lm", "bart.seq2seq_lm", "marian.seq2seq_lm"):
        recording = family_checkpoints.load(name)
        language = opened(tmp_path / name, recording)(**recording.whole(), output_hidden_states=True)
        base = tfcore.AutoModel.from_pretrained(tmp_path / name)(**recording.whole())
        states = language.get("hidden_states") or language.decoder_hidden_states
        assert_same_bits(base.last_hidden_state, states[-1], name)


def test_what_is_missing_is_named_as_the_family_saves_it(tmp_path):
    recording = family_checkpoints.load("bart.base")
    weights = weights_of(recording)
    del weights["shared.weight"], weights["encoder.embed_positions.weight"]
    with pytest.raises(
        ValueError, match=r"'shared.weight' is missing(.|\n)*'encoder.embed_positions.weight' is missing"
    ):
        opened(tmp_path, recording, weights)


# --- configs of today and of before ----------------------------------------------------------------------------------

LLAMA3 = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 32}
SAME = [  # model_type, shared fields, as configs said it before, as they say it today
    ("llama", LLAMA, {"rope_theta": 5e5, "rope_scaling": None}, {"rope_parameters": {"rope_theta": 5e5}}),
    (
        "llama",
        LLAMA,
        {"rope_theta": 5e5, "rope_scaling": LLAMA3 | {"rope_type": "llama3"}},
        {"rope_parameters": LLAMA3 | {"rope_type": "llama3", "rope_theta": 5e5}},
    ),
    (
        "llama",
        LLAMA,
        {"rope_scaling": {"type": "linear", "factor": 2.0}},
        {"rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 10000.0}},
    ),
    (
        "gpt_neox",
        NEOX,
        {"rotary_pct": 0.5, "rotary_emb_base": 500},
        {"rope_parameters": {"rope_theta": 500.0, "partial_rotary_factor": 0.5, "rope_type": "default"}},
    ),
    (
        "qwen2",
        LLAMA,
        {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 2},
        {"use_sliding_window": True, "sliding_window": 8, "layer_types": [FULL, FULL, SLIDING]},
    ),
    (
        "qwen3",
        LLAMA,
        {"sliding_window": None},
        {"use_sliding_window": False, "sliding_window": 4, "max_window_layers": 1},
    ),
    ("mistral", LLAMA, {}, {"sliding_window": 4096}),
    (
        "gemma3_text",
        LLAMA,
        {
            "rope_local_base_freq": 5e3,
            "sliding_window_pattern": 2,
            "rope_scaling": {"rope_type": "linear", "factor": 8},
        },
        {
            "layer_types": [SLIDING, FULL, SLIDING],
            "rope_parameters": {
                FULL: {"rope_type": "linear", "factor": 8, "rope_theta": 1e6},
                SLIDING: {"rope_type": "default", "rope_theta": 5e3},
            },
        },
    ),
    (
        "phi3",
        LLAMA | {"original_max_position_embeddings": 16},
        {"rope_scaling": {"type": "su"} | FACTORS},
        {"rope_parameters": {"rope_type": "longrope", "rope_theta": 1e4} | FACTORS},
    ),
]


def without_scaling(architecture):
    """The architecture, and what its rotations come to."""
    blocks = architecture.decoder.blocks
    plain = tuple(dataclasses.replace(block, rotary=None) for block in blocks)
    stack = dataclasses.replace(architecture.decoder, blocks=plain)
    turns = [frequencies_of(block.rotary) for block in blocks]
    return dataclasses.replace(architecture, decoder=stack), turns


def frequencies_of(rotary):
    found = [
        tfcore.rope.rotary_frequencies(rotary.dim, base=rotary.base, scaling=rotary.scaling, length=length)
        for length in (1, 16, 17, 64, 100)
    ]
    return [(frequencies.tolist(), magnitude) for frequencies, magnitude in found]


@pytest.mark.parametrize(("model_type", "fields", "before", "today"), SAME)
def test_configs_say_the_same_in_old_and_new_words(model_type, fields, before, today):
    old, new = describe(model_type, fields | before), describe(model_type, fields | today)
    assert without_scaling(old) == without_scaling(new)
    assert (
        without_scaling(old) != without_scaling(describe(model_type, fields)) or before == {} or model_type == "qwen3"
    )


def test_windows_count_the_querys_own_key():
    assert describe("mistral", LLAMA | {"sliding_window": 5}).decoder.blocks[0].window == (4, -1)
    assert describe("mistral", LLAMA | {"sliding_window": None}).decoder.blocks[0].window == (-1, -1)
    assert describe("phi3", LLAMA).decoder.blocks[0].window == (-1, -1)


@pytest.mark.parametrize("model_type", ["mistral", "phi3", "gemma3_text"])
def test_a_window_wider_than_any_text_is_none(model_type):
    wide, vast = (describe(model_type, LLAMA | {"sliding_window": 2**31 - n}).decoder.blocks[0] for n in (1, 0))
    assert (wide.window, vast.window) == ((2**31 - 2, -1), (-1, -1))
    vast = describe(model_type, LLAMA | {"sliding_window": 10**30}).decoder.blocks[0]
    assert vast.window == (-1, -1)


def test_longrope_stretches_by_the_ratio_of_lengths():
    fields = LLAMA | {"original_max_position_embeddings": 16, "rope_scaling": {"type": "longrope"} | FACTORS}
    [block, *_] = describe("phi3", fields).decoder.blocks
    assert frequencies_of(block.rotary)[0][1] == pytest.approx((1 + np.log(64 / 16) / np.log(16)) ** 0.5, rel=1e-15)


def test_a_familys_start_token_may_be_beyond_a_small_vocabulary():
    unsaid = MARIAN | {"decoder_start_token_id": None}
    assert describe("marian", unsaid).start is None
    assert describe("marian", unsaid | {"vocab_size": 58101}).start == 58100
    assert describe("marian", MARIAN).start == 63


TRAINED = "original_max_position_embeddings"


@pytest.mark.parametrize("wrong", ["16", [16], True, False, 16.0, -16, 0])
def test_longrope_wants_lengths(wrong):
    scaling = {"type": "longrope"} | FACTORS
    for name, fields in (
        ("max_position_embeddings", {"max_position_embeddings": wrong, TRAINED: 16}),
        (TRAINED, {TRAINED: wrong}),
        (TRAINED, {"rope_scaling": scaling | {TRAINED: wrong}}),
    ):
        message = re.escape(f"config.json: field '{name}' is {json.dumps(wrong)}, expected a positive integer")
        with pytest.raises(ValueError, match=f"^{message}$"):
            describe("phi3", LLAMA | {"rope_scaling": scaling} | fields)


REFUSED = [
    ("gpt2", GPT2, {"add_cross_attention": True}, "add_cross_attention"),
    ("gpt2", GPT2, {"activation_function": "mish"}, "activation_function"),
    ("gpt2", GPT2, {"n_head": 5}, "n_embd"),
    ("llama", LLAMA, {"head_dim": 7}, "rotary positions: rotary_dim is 7"),
    ("llama", LLAMA, {"rope_scaling": {"type": "alibi"}}, "rope_type is 'alibi'"),
    ("llama", LLAMA, {"rope_scaling": {"type": "linear"}}, "rope_type 'linear' needs 'factor'"),
    ("llama", LLAMA, {"rope_scaling": {"type": "linear", "factor": 0}}, "rotary positions: scaling: 'factor' is 0"),
    ("llama", LLAMA, {"rope_scaling": "linear"}, "field 'rope_scaling' is linear, expected one set"),
    ("llama", LLAMA, {"rope_parameters": {FULL: {"rope_theta": 1.0}}}, "rope_parameters"),
    ("llama", LLAMA, {"rope_theta": "big"}, "rotary positions"),
    ("llama", LLAMA, {"num_hidden_layers": 10**9}, "num_hidden_layers"),
    ("llama", LLAMA, {"rope_theta": 0}, "rotary positions: base is 0.0, expected a positive number"),
    ("llama", LLAMA, {"rope_theta": True}, "rotary positions: rope_theta is True, expected a number"),
    *(
        ("llama", LLAMA | YARN, {"rope_scaling": YARN["rope_scaling"] | {name: value}}, f"{name}' is {value}, expected")
        for name in ("attention_factor", "mscale", "mscale_all_dim")
        for value in (float("nan"), -1.0)
    ),
    ("marian", MARIAN, {"max_position_embeddings": 10**8}, "'max_position_embeddings' is 100000000, expected at most"),
    (
        "t5",
        T5,
        {"relative_attention_max_distance": 8},
        "'relative_attention_max_distance': 32 buckets up to a distance of 8: expected at least 4, .* above a quarter",
    ),
    (
        "t5",
        T5,
        {"relative_attention_max_distance": 16},
        "'relative_attention_max_distance': 32 buckets up to a distance of 16: expected at least 2, .* above a half",
    ),
    *(
        (
            "t5",
            T5,
            {"relative_attention_num_buckets": count},
            f"'relative_attention_num_buckets'.* {count}[, ].*expected",
        )
        for count in (-1, 0, 1, 3, 10**30)
    ),
    *(
        (
            kind,
            fields,
            {"decoder_start_token_id": 64},
            "field 'decoder_start_token_id' is 64, expected 0 to 63: a token",
        )
        for kind, fields in (("t5", T5), ("bart", BART), ("marian", MARIAN))
    ),
    ("marian", MARIAN, {"decoder_vocab_size": 63}, "field 'decoder_start_token_id' is 63, expected 0 to 62: a token"),
    ("mistral", LLAMA, {"sliding_window": 0}, "field 'sliding_window' is 0"),
    ("mistral", LLAMA, {"layer_types": [FULL]}, "field 'layer_types' is .* expected 3 of"),
    ("qwen2", LLAMA, {"use_mrope": True}, "use_mrope"),
    ("qwen2", LLAMA, {"layer_types": [FULL]}, "field 'layer_types' is .* expected 3 of"),
    ("qwen3", LLAMA, {"layer_types": [FULL, FULL, "linear_attention"]}, "layer_types"),
    ("qwen3", LLAMA, {"max_window_layers": -1}, "max_window_layers"),
    ("gemma3_text", LLAMA, {"use_bidirectional_attention": True}, "use_bidirectional_attention"),
    ("gemma3_text", LLAMA, {"attn_logit_softcapping": 50.0}, "attn_logit_softcapping"),
    ("gemma3_text", LLAMA, {"final_logit_softcapping": 0}, "final_logit_softcapping"),
    ("gemma3_text", LLAMA, {"rope_parameters": {"rope_theta": 500.0}}, "rope_parameters"),
    ("phi3", LLAMA, {"lm_head_bias": True}, "lm_head_bias"),
    (
        "phi3",
        LLAMA,
        {"rope_scaling": {"type": "longrope"} | FACTORS, "head_dim": 10},
        "'short_factor' is .* expected 5",
    ),
    (
        "phi3",
        LLAMA,
        {"rope_scaling": {"type": "longrope"} | FACTORS | {"long_factor": [1, 1, 1, -1]}},
        "'long_factor' is .* expected 4 positive",
    ),
    ("mistral", LLAMA, {"num_key_value_heads": 3}, "'num_key_value_heads' is 3, expected a divisor of 'num_attention"),
    ("gpt_neox", NEOX, {"rotary_pct": -0.25}, "rotary_pct"),
    ("bart", BART, {"normalize_before": True}, "normalize_before"),
    ("bart", BART, {"add_final_layer_norm": True}, "add_final_layer_norm"),
    ("bart", BART, {"normalize_embedding": False}, "normalize_embedding"),
    ("bart", BART, {"is_decoder": True}, "is_decoder"),
    ("bart", BART, {"is_causal": False}, "is_causal"),
    ("marian", MARIAN, {"normalize_embedding": True}, "normalize_embedding"),
    ("marian", MARIAN, {"static_position_embeddings": False}, "static_position_embeddings"),
]


@pytest.mark.parametrize(("model_type", "fields", "change", "message"), REFUSED)
def test_variants_that_are_not_implemented_are_refused(model_type, fields, change, message):
    describe(model_type, fields)
    with pytest.raises(ValueError, match=f"config.json: .*{message}"):
        describe(model_type, fields | change)


@pytest.mark.parametrize(
    ("name", "auto_class"),
    [
        ("phi3.base", "AutoModelForQuestionAnswering"),
        ("gemma3.base", "AutoModelForTokenClassification"),
        ("marian.base", "AutoModelForSequenceClassification"),
        ("gpt2.base", "AutoModelForMaskedLM"),
    ],
)
def test_heads_that_a_family_has_not(tmp_path, name, auto_class):
    folder = family_checkpoints.write_checkpoint(tmp_path, family_checkpoints.load(name))
    with pytest.raises(ValueError, match="have no head for"):
        getattr(tfcore, auto_class).from_pretrained(folder)


# --- live ------------------------------------------------------------------------------------------------------------

VARIANTS = [
    (
        "gpt2",
        GPT2 | {"n_inner": 13, "scale_attn_weights": False, "activation_function": "silu"},
        "AutoModelForCausalLM",
    ),
    (
        "gpt_neox",
        NEOX | {"attention_bias": False, "rotary_pct": 1.0, "hidden_act": "gelu_fast"},
        "AutoModelForCausalLM",
    ),
    (
        "llama",
        LLAMA
        | {"rope_scaling": {"type": "yarn", "factor": 4.0, "mscale": 0.7, "mscale_all_dim": 0.9, "truncate": False}},
        "AutoModel",
    ),
    ("llama", LLAMA | {"rope_scaling": {"type": "dynamic", "factor": 3.0}, "max_position_embeddings": 8}, "AutoModel"),
    ("mistral", LLAMA | {"sliding_window": 1, "tie_word_embeddings": True}, "AutoModelForCausalLM"),
    (
        "qwen2",
        LLAMA | {"use_sliding_window": True, "sliding_window": 3, "max_window_layers": 0},
        "AutoModelForCausalLM",
    ),
    (
        "qwen3",
        LLAMA | {"attention_bias": True, "sliding_window": 3, "use_sliding_window": True, "max_window_layers": 2},
        "AutoModelForSequenceClassification",
    ),
    (
        "gemma3_text",
        LLAMA
        | {"attention_bias": True, "sliding_window_pattern": 2, "sliding_window": 3, "rope_theta": 1e5, "head_dim": 12},
        "AutoModelForCausalLM",
    ),
    (
        "phi3",
        LLAMA
        | {"rope_scaling": {"type": "longrope", "short_factor": [1.0, 1.1, 1.3], "long_factor": [1.5, 2.0, 3.0]}}
        | {"original_max_position_embeddings": 8, "partial_rotary_factor": 0.75, "tie_word_embeddings": True},
        "AutoModelForCausalLM",
    ),
    *(
        (kind, fields | {"is_causal": False}, "AutoModel")
        for kind, fields in (
            ("gpt2", GPT2),
            ("gpt_neox", NEOX),
            ("qwen2", LLAMA),
            ("mistral", LLAMA | {"sliding_window": 3}),
            ("gemma3_text", LLAMA | {"sliding_window": 4, "head_dim": 12}),
        )
    ),
    (
        "ministral",
        LLAMA | {"head_dim": 8, "sliding_window": 3, "layer_types": [FULL, SLIDING, FULL]},
        "AutoModelForCausalLM",
    ),
    ("bart", BART | {"scale_embedding": True, "activation_function": "swish"}, "AutoModelForSequenceClassification"),
    ("bart", BART | {"tie_word_embeddings": False}, "AutoModelForSeq2SeqLM"),
    ("t5", T5 | {"dense_act_fn": "silu"}, "AutoModel"),
    (
        "marian",
        MARIAN | {"share_encoder_decoder_embeddings": False, "decoder_vocab_size": 64, "decoder_layers": 3},
        "AutoModelForSeq2SeqLM",
    ),
]


@pytest.mark.parametrize(("model_type", "fields", "auto_class"), VARIANTS)
def test_variants_against_transformers(tmp_path, model_type, fields, auto_class):
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    tokens = {"pad_token_id": 1, "eos_token_id": 2, "bos_token_id": 0} | fields
    config = transformers.AutoConfig.for_model(model_type, **tokens)
    model = getattr(transformers, auto_class).from_config(config, attn_implementation="eager").eval()
    named = {name: weight for name, weight in model.named_parameters() if "embed_positions" not in name}
    values = family_checkpoints.tensors({name: tuple(weight.shape) for name, weight in named.items()})
    with torch.no_grad():
        for name, weight in named.items():
            weight.copy_(torch.from_numpy(values[name]))
    model.save_pretrained(tmp_path)
    if model_type == "ministral":  # what Transformers makes of a Mistral whose layers differ
        config_file = tmp_path / "config.json"
        config_file.write_text(config_file.read_text().replace('"ministral"', '"mistral"'))
    ids = np.random.RandomState(3).randint(5, 60, (2, 21))
    ids[:, -1] = config.eos_token_id
    two_texts = config.is_encoder_decoder and auto_class != "AutoModelForSequenceClassification"
    inputs = {"input_ids": ids} | ({"decoder_input_ids": ids[:, :7]} if two_texts else {})
    if model_type == "gpt2":
        inputs["token_type_ids"] = ids[:, ::-1] % 3
    with torch.no_grad():
        want = model.double()(**{name: torch.from_numpy(value) for name, value in inputs.items()})[0].numpy()
    got = getattr(tfcore, auto_class).from_pretrained(tmp_path)(**inputs)[0]
    assert_close(got, want, bound=2e-5 * want.std(), dtype=np.float32)


# --- holes in masks --------------------------------------------------------------------------------------------------


def test_a_hole_is_refused_where_distances_matter(tmp_path):
    """What is packed has no holes: a window would reach over one, a relative bias take its ends for neighbours."""
    ids, mask = np.arange(5, 17)[None], np.ones((1, 12), int)
    holed, padded = mask.copy(), mask.copy()
    holed[0, 4:6] = padded[0, :2] = padded[0, 10:] = 0
    llama = opened(tmp_path / "llama", family_checkpoints.load("llama-llama3.causal_lm"))
    assert np.isfinite(llama(ids, holed).logits).all()
    mistral = opened(tmp_path / "mistral", family_checkpoints.load("mistral.causal_lm"))
    window = mistral.stack.reach + 1
    assert window < 10
    assert np.isfinite(mistral(ids[:, :window], holed[:, :window]).logits).all()
    t5 = opened(tmp_path / "t5", family_checkpoints.load("t5.seq2seq_lm"))
    for refused in (
        lambda mask: mistral(ids, mask),
        lambda mask: mistral.generate(ids, mask, max_new_tokens=1),
        lambda mask: t5(ids, mask, decoder_input_ids=ids),
        lambda mask: t5(ids, decoder_input_ids=ids, decoder_attention_mask=mask),
        lambda mask: t5.generate(ids, mask, max_new_tokens=1),
    ):
        refused(padded)
        with pytest.raises(ValueError, match=r"attention_mask\[0\] has zeros between the tokens of a text"):
            refused(holed)


# --- rotations that follow a text's length ---------------------------------------------------------------------------


@pytest.mark.parametrize("num_beams", [1, 3])
def test_a_text_that_outgrows_its_rotation_goes_on_as_if_read_at_once(tmp_path, rng, num_beams):
    """LongRoPE turns all keys by other angles beyond the trained length, 16 here: those in the cache are read again."""
    recording = family_checkpoints.load("phi3-longrope.base")
    weights = weights_of(recording) | {"lm_head.weight": rng.normal(size=(64, 32)).astype(np.float32)}
    family_checkpoints.write_checkpoint(tmp_path, recording, weights)
    model = tfcore.AutoModelForCausalLM.from_pretrained(tmp_path)
    texts = [rng.integers(3, 60, length).tolist() for length in (14, 9, 3, 16)]
    options = {"max_new_tokens": 8, "num_beams": num_beams, "eos_token_id": None}
    ids = [text + [0] * (16 - len(text)) for text in texts]
    batch = model.generate(ids, [[1] * len(text) + [0] * (16 - len(text)) for text in texts], **options)[:, 16:]
    for text, together in zip(texts, batch.tolist(), strict=True):
        assert model.generate([text], **options)[0, len(text) :].tolist() == together
        if num_beams == 1:
            for token in together:
                assert int(model([text]).logits[0, -1].argmax()) == token
                text.append(token)
