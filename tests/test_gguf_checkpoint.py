"""GGUF files as Hugging Face checkpoints: names, shapes and numbers of tensors, and the fields of a config.json."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
import tfcore
from closeness import assert_close, assert_same_bits
from gguf_files import ARCHITECTURES, BLOCKS, HEADS, LAYERS, METADATA, SIZES, model, smollm2, write_gguf
from tfcore.models.gguf_checkpoint import GgufCheckpoint

TOKENIZER = {
    "tokenizer.ggml.bos_token_id": 0,
    "tokenizer.ggml.eos_token_id": 1,
    "tokenizer.ggml.padding_token_id": 2,
}


def open_model(folder, architecture="llama", metadata=(), tensors=(), without=()):
    """A small model of an architecture, with some keys and tensors changed or left out."""
    keys = {**METADATA[architecture], **TOKENIZER, **dict(metadata)}
    stored = {**model(architecture)[1], **dict(tensors)}
    for name in without:
        keys.pop(name, None)
        stored.pop(name, None)
    return GgufCheckpoint.open(write_gguf(folder / "model.gguf", keys, stored))


def transformers():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for needed in ("torch", "accelerate", "gguf"):
            pytest.importorskip(needed)
        return pytest.importorskip("transformers")


# ---- tensors


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_names_shapes_and_numbers_of_the_checkpoint(tmp_path, architecture):
    want, _ = model(architecture)
    checkpoint = open_model(tmp_path, architecture)
    assert set(checkpoint) == set(want)
    assert len(checkpoint) == len(want)
    for name, values in want.items():
        got = checkpoint[name]
        assert checkpoint.shape(name) == got.shape == values.shape
        assert got.flags.c_contiguous
        if architecture == "gemma3" and "norm" in name:  # the sum with 1 was rounded
            assert_close(got, values, bound=2.0**-22, what=name)
        else:
            assert_same_bits(got, values, name)
    assert "missing" not in checkpoint
    assert checkpoint.file(name) == tmp_path / "model.gguf"
    with pytest.raises(KeyError):
        checkpoint["missing"]


def test_biases_of_llama_are_put_in_order_too(tmp_path):
    bias = np.arange(SIZES["Q"], dtype=np.float32)
    size = SIZES["D"]
    mixed = [h * size + part * size // 2 + j for h in range(HEADS) for j in range(size // 2) for part in (0, 1)]
    checkpoint = open_model(tmp_path, tensors={f"blk.{i}.attn_q.bias": bias[mixed] for i in range(LAYERS)})
    assert_same_bits(checkpoint["model.layers.1.self_attn.q_proj.bias"], bias)
    assert checkpoint.config_fields()["attention_bias"] is True


def test_an_unknown_tensor_is_named(tmp_path):
    extra = dict.fromkeys(("blk.0.ffn_gate_exps.weight", "blk.01.attn_q.weight", "more"), np.zeros(4, np.float32))
    with pytest.raises(ValueError, match=r"model\.gguf: unknown to architecture llama: 'blk\.0\.ffn_gate_exps.*'more'"):
        open_model(tmp_path, tensors=extra)


def test_a_part_of_several_files(tmp_path):
    with pytest.raises(ValueError, match=r"model\.gguf: key 'split\.count' is 3: the tensors are split over several"):
        open_model(tmp_path, metadata={"split.count": 3})
    assert len(open_model(tmp_path, metadata={"split.count": 1})) > 1


def test_rows_that_are_no_pairs_for_each_head(tmp_path):
    odd = np.zeros((SIZES["Q"] - 4, SIZES["C"]), np.float32)
    with pytest.raises(
        ValueError, match=r"'blk\.0\.attn_q\.weight' has shape \(44, 32\), expected pairs of rows for e"
    ):
        open_model(tmp_path, tensors={"blk.0.attn_q.weight": odd})


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_transformers_has_the_same_names_and_shapes(tmp_path, architecture):
    """A model built from our fields of a config has our tensors, and no others but a tied output."""
    library = transformers()
    checkpoint = open_model(tmp_path, architecture)
    built = library.AutoModelForCausalLM.from_config(library.AutoConfig.for_model(**checkpoint.config_fields()))
    shapes = {name: tuple(tensor.shape) for name, tensor in built.state_dict().items()}
    if checkpoint.config_fields()["tie_word_embeddings"]:
        del shapes["lm_head.weight"]
    assert {name: checkpoint.shape(name) for name in checkpoint} == shapes


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.filterwarnings("ignore")
def test_transformers_reads_the_same_numbers(tmp_path, architecture):
    library = transformers()
    checkpoint = open_model(tmp_path, architecture, {"tokenizer.ggml.tokens": [f"t{i}" for i in range(SIZES["V"])]})
    config = library.AutoConfig.for_model(**checkpoint.config_fields())
    loaded = library.AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file="model.gguf", config=config)
    numbers = {name: tensor.float().numpy() for name, tensor in loaded.state_dict().items()}
    for name in checkpoint:
        assert_same_bits(checkpoint[name], numbers[name], name)


@pytest.mark.parametrize("kind", ["Q8_0", "F16"])
def test_what_gguf_turned_stays_as_it_is_stored(tmp_path, rng, kind):
    """GPT-2's matrices, which its checkpoints hold the other way round: the bits are those of float32 weights."""
    tokens = {"tokenizer.ggml.tokens": [f"t{i}" for i in range(SIZES["V"])]}
    matrices = {name: values for name, values in model("gpt2")[1].items() if name[:3] == "blk" and values.ndim == 2}
    numbers, size = BLOCKS[kind]
    stored = {}
    for name, values in matrices.items():
        blocks = values.astype("<f2").view(np.uint8)
        if kind == "Q8_0":
            blocks = rng.integers(0, 256, (values.size // numbers, size), np.uint8)
            blocks[:, :2] = (rng.standard_normal((len(blocks), 1)) / 128).astype("<f2").view(np.uint8)
        stored[name] = (kind, values.shape, blocks.tobytes())
    narrow = open_model(tmp_path, "gpt2", tokens, stored)
    wide = {name: narrow.gguf.read(name) for name in matrices}
    ids = rng.integers(0, SIZES["V"], (2, 7))
    opened = tfcore.AutoModel.from_pretrained(tmp_path / "model.gguf")
    weights = opened.read_weights()
    kept = [name for name in weights if ".blocks." in name and weights[name].ndim == 2]
    assert kept
    assert all(weights.as_stored(name) for name in kept)
    got = opened(ids).last_hidden_state
    open_model(tmp_path, "gpt2", tokens, wide)
    assert_same_bits(got, tfcore.AutoModel.from_pretrained(tmp_path / "model.gguf")(ids).last_hidden_state)


# ---- fields


def test_fields_of_llama(tmp_path):
    assert open_model(tmp_path).config_fields() == {
        "model_type": "llama",
        "vocab_size": 40,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 12,
        "max_position_embeddings": 128,
        "rms_norm_eps": 1e-5,
        "hidden_act": "silu",
        "rope_theta": 50000.0,
        "rope_scaling": None,
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": False,
        "bos_token_id": 0,
        "eos_token_id": 1,
        "pad_token_id": 2,
    }


def test_fields_of_gpt2(tmp_path):
    fields = open_model(tmp_path, "gpt2").config_fields()
    sizes = {"n_positions": 16, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_inner": 64, "vocab_size": 40}
    assert fields.items() >= {**sizes, "model_type": "gpt2", "activation_function": "gelu_new"}.items()
    assert (fields["layer_norm_epsilon"], fields["tie_word_embeddings"]) == (1e-5, True)


def test_fields_of_gemma3(tmp_path):
    layers = {"gemma3.block_count": 13, "gemma3.rope.scaling.type": "linear", "gemma3.rope.scaling.factor": 8.0}
    fields = open_model(tmp_path, "gemma3", layers).config_fields()
    assert fields["model_type"] == "gemma3_text"
    assert [i for i, kind in enumerate(fields["layer_types"]) if kind == "full_attention"] == [5, 11]
    assert (fields["sliding_window"], fields["query_pre_attn_scalar"]) == (8, 12)
    assert (fields["rope_theta"], fields["rope_local_base_freq"]) == (50000.0, 10000.0)
    assert fields["rope_scaling"] == {"rope_type": "linear", "factor": 8.0}
    assert fields["hidden_activation"] == "gelu_pytorch_tanh"
    assert "hidden_act" not in fields
    assert fields["tie_word_embeddings"] is True


def test_the_largest_gemma3_scales_scores_otherwise(tmp_path):
    more = {f"blk.{i}.attn_norm.weight": np.ones(SIZES["C"], np.float32) for i in range(62)}
    fields = open_model(tmp_path, "gemma3", {"gemma3.block_count": 62}, more).config_fields()
    assert fields["query_pre_attn_scalar"] == SIZES["C"] // HEADS


def test_fields_of_phi3(tmp_path):
    short, long = (np.linspace(1, top, 3).astype(np.float32) for top in (1.25, 30.5))
    fields = open_model(
        tmp_path,
        "phi3",
        {"phi3.rope.dimension_count": 6, "phi3.attention.sliding_window": 9, "phi3.context_length": 4096},
        {"rope_factors_short.weight": short, "rope_factors_long.weight": long},
    ).config_fields()
    assert fields["rope_scaling"]["rope_type"] == "longrope"
    assert np.float32(fields["rope_scaling"]["short_factor"]).tolist() == short.tolist()
    assert np.float32(fields["rope_scaling"]["long_factor"]).tolist() == long.tolist()
    assert (fields["max_position_embeddings"], fields["original_max_position_embeddings"]) == (4096, 128)
    assert (fields["partial_rotary_factor"], fields["sliding_window"]) == (0.75, 9)
    assert open_model(tmp_path, "phi3").config_fields()["sliding_window"] is None


def test_phi3s_factors_for_another_width(tmp_path):
    factors = {f"rope_factors_{kind}.weight": np.ones(5, np.float32) for kind in ("short", "long")}
    with pytest.raises(ValueError, match=r"tensor 'rope_factors_short\.weight' has shape \(5,\), expected \(4,\)"):
        open_model(tmp_path, "phi3", tensors=factors)


def test_half_of_phi3s_factors(tmp_path):
    with pytest.raises(ValueError, match=r"tensor 'rope_factors_long\.weight' is missing, the other of its pair"):
        open_model(tmp_path, "phi3", tensors={"rope_factors_short.weight": np.ones(4, np.float32)})


def test_fields_of_mistral(tmp_path):
    """Mistral comes as Llama; with a window it is what Transformers calls Mistral."""
    fields = open_model(tmp_path, metadata={"llama.attention.sliding_window": 64}).config_fields()
    assert (fields["model_type"], fields["sliding_window"]) == ("mistral", 64)


def test_a_decoder_that_reads_both_ways(tmp_path):
    fields = open_model(tmp_path, metadata={"llama.attention.causal": False}).config_fields()
    assert fields["is_causal"] is False
    assert "is_causal" not in open_model(tmp_path, metadata={"llama.attention.causal": True}).config_fields()


def test_fields_that_follow_from_others(tmp_path):
    parts = ("attention.key_length", "attention.value_length", "attention.head_count_kv", "rope.freq_base")
    without = [f"qwen2.{part}" for part in (*parts, "rope.dimension_count", "vocab_size")] + ["output.weight"]
    fields = open_model(tmp_path, "qwen2", without=[*without, *TOKENIZER]).config_fields()
    assert (fields["head_dim"], fields["num_key_value_heads"], fields["rope_theta"]) == (8, 4, 10000.0)
    assert (fields["vocab_size"], fields["tie_word_embeddings"], fields["eos_token_id"]) == (40, True, None)


def test_a_turns_end_is_an_end_too(tmp_path):
    tokens = [f"t{i}" for i in range(39)] + ["<|end|>"]
    assert open_model(tmp_path, metadata={"tokenizer.ggml.tokens": tokens}).config_fields()["eos_token_id"] == [1, 39]
    assert open_model(tmp_path, metadata={"tokenizer.ggml.eot_token_id": 7}).config_fields()["eos_token_id"] == [1, 7]
    assert open_model(tmp_path, metadata={"tokenizer.ggml.eot_token_id": 1}).config_fields()["eos_token_id"] == 1


# ---- scaled positions


@pytest.mark.parametrize(
    ("keys", "scaling"),
    [
        ({"type": "none"}, None),
        ({"type": "linear", "factor": 4.0}, {"rope_type": "linear", "factor": 4.0}),
        (
            {"type": "yarn", "factor": 4.0, "original_context_length": 32},
            {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32},
        ),
        (
            {
                "type": "yarn",
                "factor": 4.0,
                "original_context_length": 32,
                "yarn_beta_fast": 30.0,
                "yarn_beta_slow": 2.0,
                "attn_factor": 0.5,
            },
            {
                "rope_type": "yarn",
                "factor": 4.0,
                "original_max_position_embeddings": 32,
                "beta_fast": 30.0,
                "beta_slow": 2.0,
                "attention_factor": 0.5 * (0.1 * math.log(4) + 1),
            },
        ),
    ],
)
def test_scaling(tmp_path, keys, scaling):
    metadata = {f"llama.rope.scaling.{name}": value for name, value in keys.items()}
    assert open_model(tmp_path, metadata=metadata).config_fields()["rope_scaling"] == scaling


def test_the_old_key_of_linear_scaling(tmp_path):
    fields = open_model(tmp_path, metadata={"llama.rope.scale_linear": 2.0}).config_fields()
    assert fields["rope_scaling"] == {"rope_type": "linear", "factor": 2.0}


STRETCHED = {"llama.rope.freq_base": 20000.0}  # of the six waves one lies between the short and the long ones


def llama3_divisors(factor: float, low=1.0, high=4.0, length=8192, base=20000.0, size=SIZES["D"]) -> np.ndarray:
    """Llama 3's rule: short waves stay, long ones are stretched, those between go over smoothly."""
    divisors = []
    for j in range(0, size, 2):
        wave = 2 * math.pi * base ** (j / size)
        if wave < length / high:
            divisors.append(1.0)
        elif wave > length / low:
            divisors.append(factor)
        else:
            smooth = (length / wave - low) / (high - low)
            divisors.append(1 / ((1 - smooth) / factor + smooth))
    return np.array(divisors, np.float32)


@pytest.mark.parametrize("factor", [8.0, 32.0])
def test_llama3s_scaling_is_found_in_its_tensor(tmp_path, factor):
    divisors = llama3_divisors(factor)
    assert ((divisors > 1) & (divisors < factor)).any()
    checkpoint = open_model(tmp_path, metadata=STRETCHED, tensors={"rope_freqs.weight": divisors})
    assert checkpoint.config_fields()["rope_scaling"] == {
        "rope_type": "llama3",
        "factor": factor,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    }
    assert not [name for name in checkpoint if "rope" in name]


@pytest.mark.parametrize(
    ("divisors", "message"),
    [
        (llama3_divisors(8.0, high=3.0), "holds divisors of frequencies other than Llama 3's for a factor of 8.0"),
        (np.linspace(1, 8, 6).astype(np.float32), "holds divisors of frequencies other than Llama 3's"),
        (np.full(6, np.nan, np.float32), r"has shape \(6,\) and a maximum of nan"),
        (np.zeros(6, np.float32), ".* and a maximum of 0.0, expected"),
        (np.zeros(0, np.float32), r"has shape \(0,\)"),
        (llama3_divisors(8.0)[:5], r"has shape \(5,\) and a maximum of .*, expected \(6,\)"),
    ],
)
def test_other_divisors_are_refused(tmp_path, divisors, message):
    with pytest.raises(ValueError, match=rf"model\.gguf: tensor 'rope_freqs\.weight' {message}"):
        open_model(tmp_path, metadata=STRETCHED, tensors={"rope_freqs.weight": divisors})


# ---- metadata that is missing or wrong


def test_an_unknown_architecture_lists_those_that_are_known(tmp_path):
    with pytest.raises(
        ValueError, match=r"model\.gguf: key 'general\.architecture' is 'mamba', expected one of llama, q"
    ):
        open_model(tmp_path, metadata={"general.architecture": "mamba"})


REQUIRED = {
    architecture: [
        "general.architecture",
        *(
            f"{architecture}.{name}"
            for name in ("context_length", "embedding_length", "feed_forward_length", "block_count")
        ),
        f"{architecture}.attention.head_count",
        f"{architecture}.attention.layer_norm_{'epsilon' if architecture == 'gpt2' else 'rms_epsilon'}",
        *(["gemma3.attention.sliding_window"] if architecture == "gemma3" else []),
    ]
    for architecture in ARCHITECTURES
}


@pytest.mark.parametrize(("architecture", "key"), [(name, key) for name, keys in REQUIRED.items() for key in keys])
def test_a_missing_key_is_named(tmp_path, architecture, key):
    with pytest.raises(ValueError, match=rf"model\.gguf: field '{key}' is missing"):
        open_model(tmp_path, architecture, without=[key])


@pytest.mark.parametrize("wrong", ["two", 0, -2, True, 2.5, [2, 2]])
def test_a_key_of_the_wrong_type_or_range_is_named(tmp_path, wrong):
    with pytest.raises(ValueError, match=r"model\.gguf: field 'llama\.block_count' is .*, expected a positive integer"):
        open_model(tmp_path, metadata={"llama.block_count": wrong})


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"general.architecture": 3}, "field 'general.architecture' is 3, expected a string"),
        ({"llama.attention.layer_norm_rms_epsilon": 0.0}, "field 'llama.attention.layer_norm_rms_epsilon' is 0.0"),
        ({"llama.rope.freq_base": float("nan")}, "field 'llama.rope.freq_base' is NaN, expected a positive number"),
        ({"llama.rope.freq_base": float("inf")}, "field 'llama.rope.freq_base' is Infinity"),
        ({"llama.vocab_size": 41}, "key 'llama.vocab_size' is 41, expected 40, the rows of tensor 'token_embd.weight'"),
        ({"llama.attention.value_length": 16}, "key 'llama.attention.value_length' is 16, expected 12"),
        (
            {"llama.rope.dimension_count": 14},
            "key 'llama.rope.dimension_count' is 14, expected an even number up to 12",
        ),
        ({"llama.rope.dimension_count": 5}, "key 'llama.rope.dimension_count' is 5, expected an even number"),
        (
            {"llama.rope.scaling.type": "ntk"},
            "key 'llama.rope.scaling.type' is 'ntk', expected one of none, linear, yarn",
        ),
        ({"llama.rope.scaling.type": "longrope"}, "key 'llama.rope.scaling.type' is 'longrope', expected one of none"),
        ({"llama.rope.scaling.type": "yarn"}, "field 'llama.rope.scaling.factor' is missing"),
        ({"llama.expert_count": 8}, "key 'llama.expert_count' is 8, expected 0: nothing else is implemented"),
        ({"llama.attention.clamp_kqv": 8.0}, "key 'llama.attention.clamp_kqv' is 8.0, expected 0"),
        (
            {"tokenizer.ggml.bos_token_id": 40},
            "key 'tokenizer.ggml.bos_token_id' is 40, expected an integer from 0 to 39",
        ),
        ({"tokenizer.ggml.eos_token_id": "1"}, "key 'tokenizer.ggml.eos_token_id' is '1'"),
    ],
)
def test_metadata_that_cannot_be(tmp_path, metadata, message):
    with pytest.raises(ValueError, match=rf"model\.gguf: {message}"):
        open_model(tmp_path, metadata=metadata)


def test_no_experts_are_no_experts(tmp_path):
    assert open_model(tmp_path, metadata={"llama.expert_count": 0}).config_fields()["model_type"] == "llama"


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_more_layers_than_tensors(tmp_path, architecture):
    with pytest.raises(ValueError, match=r"\.block_count' is 4294967295, expected at most \d+, as there are tensors"):
        open_model(tmp_path, architecture, {f"{architecture}.block_count": 2**32 - 1})


@pytest.mark.parametrize("shape", [(), (40,), (0, 32), (1, 40, 32)])
def test_embeddings_of_another_shape(tmp_path, shape):
    with pytest.raises(
        ValueError, match=r"tensor 'token_embd\.weight' has shape \(.*\), expected a row for each token"
    ):
        open_model(tmp_path, tensors={"token_embd.weight": np.zeros(shape, np.float32)})


def test_no_embeddings(tmp_path):
    with pytest.raises(ValueError, match=r"model\.gguf: tensor 'token_embd\.weight' is missing"):
        open_model(tmp_path, without=["token_embd.weight"])


# ---- a real file


@pytest.fixture(scope="module")
def real():
    return GgufCheckpoint.open(smollm2())


def test_fields_of_a_real_file(real):
    assert real.config_fields() == {
        "model_type": "llama",
        "vocab_size": 49152,
        "hidden_size": 576,
        "intermediate_size": 1536,
        "num_hidden_layers": 30,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
        "head_dim": 64,
        "max_position_embeddings": 8192,
        "rms_norm_eps": 1e-5,
        "hidden_act": "silu",
        "rope_theta": 100000.0,
        "rope_scaling": None,
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": True,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 2,
    }


def test_shapes_of_a_real_file(real):
    shapes = {"model.embed_tokens.weight": (49152, 576), "model.norm.weight": (576,)}
    for i in range(30):
        layer = f"model.layers.{i}"
        shapes |= {f"{layer}.{norm}_layernorm.weight": (576,) for norm in ("input", "post_attention")}
        shapes |= {f"{layer}.self_attn.{part}_proj.weight": (576, 576) for part in "qo"}
        shapes |= {f"{layer}.self_attn.{part}_proj.weight": (192, 576) for part in "kv"}
        shapes |= {f"{layer}.mlp.{part}_proj.weight": (1536, 576) for part in ("gate", "up")}
        shapes[f"{layer}.mlp.down_proj.weight"] = (576, 1536)
    assert {name: real.shape(name) for name in real} == shapes


def test_queries_of_a_real_file_are_put_in_order(real):
    """Head 2, row 3 of the upper half comes from row 7 of the head in the file, and has Q4_1's sixteen levels."""
    stored = real.gguf.read("blk.5.attn_q.weight")
    values = real["model.layers.5.self_attn.q_proj.weight"]
    assert_same_bits(values[2 * 64 + 32 + 3], stored[2 * 64 + 7])
    assert max(len(set(block)) for block in values.reshape(-1, 32)[:100].tolist()) <= 16
