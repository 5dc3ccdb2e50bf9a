"""Every family and head: Transformers' numbers and tokens, the same bits whatever the padding, checkpoints as found."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache

import family_checkpoints as families
import numpy as np
import pytest
import tfcore
from checkpoints import write_safetensors
from family_checkpoints import load, names, tensors, write_checkpoint

CLOSE = 2e-5  # times the spread of what Transformers gives
NEW_TOKENS = 10
FIRST_OF_FAMILY = ["bert", "roberta", "xlm-roberta", "distilbert", "electra", "mpnet", "modernbert", "gpt2", "gpt_neox"]
FIRST_OF_FAMILY += ["llama", "mistral", "qwen2", "qwen3", "gemma3", "phi3", "t5", "bart", "marian"]
BASES = [f"{family}.base" for family in FIRST_OF_FAMILY]


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    """name → the recording's model, opened once."""
    return cache(lambda name: open_recording(tmp_path_factory.mktemp("checkpoint"), load(name)))


def open_recording(folder, recording, weights=None):
    write_checkpoint(folder, recording, weights)
    return getattr(tfcore, recording.auto_class).from_pretrained(folder)


def run(model, inputs, *, layers=True):
    """Its outputs by name, those of all layers stacked."""
    output = model(**inputs, output_hidden_states=layers, output_attentions=layers)
    return {key: stacked(output[key]) for key in output}


def stacked(value):
    return np.stack(value) if isinstance(value, tuple) else value


def assert_near(got, want, what):
    assert got.shape == want.shape, f"{what}: shape is {got.shape}, expected {want.shape}"
    spread = 1.0 if "attentions" in what else want.std()
    error = np.abs(got - want)
    at = np.unravel_index(error.argmax(), error.shape)
    assert (error <= CLOSE * spread).all(), f"{what}: off by {error.max():.3g} of a spread of {spread:.3g} at {at}"


def real_part(key, value, mask, source_mask):
    """Of a padded batch's outputs, what belongs to the second text alone."""
    columns, source = mask[1].astype(bool), source_mask[1].astype(bool)
    if key == "cross_attentions":
        return value[:, 1:, :, columns][..., source]
    where = source if key.startswith("encoder") else columns
    if "attentions" in key:
        return value[:, 1:, :, where][..., where]
    if "hidden_states" in key:
        return value[:, 1:, where]
    is_pooled = key == "pooler_output" or (key == "logits" and value.ndim == 2)
    return value[1:] if is_pooled else value[1:, where]


# ---- Transformers' numbers and tokens


@pytest.mark.parametrize("name", names())
def test_recorded_numbers(opened, name):
    recording, model = load(name), opened(name)
    for of, inputs in (("whole", recording.whole()), ("short", recording.short())):
        got = run(model, inputs, layers=recording.has_layers)
        for key, want in recording.outputs(of).items():
            assert_near(got[key], want, f"{name}: {key} of the {of} input")


@pytest.mark.parametrize("name", names(*families.GENERATING))
def test_recorded_tokens(opened, name):
    recording, model = load(name), opened(name)
    prompts, mask = recording.arrays["prompt_ids"], recording.arrays["prompt_mask"]
    for kind, options in (("greedy", {}), ("beam", {"num_beams": 3})):
        got = model.generate(prompts, attention_mask=mask, max_new_tokens=NEW_TOKENS, do_sample=False, **options)
        assert np.array_equal(got, recording.arrays[kind]), kind


@pytest.mark.parametrize("name", names(*families.GENERATING))
def test_a_prompt_alone_goes_on_as_in_company(opened, name):
    recording, model = load(name), opened(name)
    prompts, mask = recording.arrays["prompt_ids"], recording.arrays["prompt_mask"]
    past = prompts.shape[1] if recording.head == "causal_lm" else 0
    for prompt, real, row in zip(prompts, mask.astype(bool), recording.arrays["greedy"], strict=True):
        alone = model.generate(prompt[real][None], max_new_tokens=NEW_TOKENS, do_sample=False)[0]
        new = alone[real.sum() :] if past else alone
        assert np.array_equal(new, row[past:][: len(new)])


def test_no_end_token_never_stops_early(opened):
    recording, model = load("llama.causal_lm"), opened("llama.causal_lm")
    prompts, mask = recording.arrays["prompt_ids"], recording.arrays["prompt_mask"]
    options = {"attention_mask": mask, "max_new_tokens": NEW_TOKENS, "do_sample": False}
    free = model.generate(prompts, eos_token_id=None, **options)
    assert free.shape == (3, prompts.shape[1] + NEW_TOKENS)
    stopping = model.generate(prompts, **options)
    ends = recording.config["eos_token_id"]
    for row, stopped in zip(free, stopping, strict=True):
        new = row[prompts.shape[1] :]
        length = prompts.shape[1] + next((i + 1 for i, token in enumerate(new) if token in ends), NEW_TOKENS)
        assert np.array_equal(row[:length], stopped[:length])
        assert (stopped[length:] == recording.config["pad_token_id"]).all()


# ---- a text does not depend on its company


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("name", names())
def test_padding_leaves_the_bits_alone(opened, name, side):
    recording, model = load(name), opened(name)
    shifts = recording.config.get("is_encoder_decoder") and recording.head in families.TASKS
    if side == "left" and shifts:
        pytest.skip("its decoder reads the shifted input itself, which starts on the left")
    inputs, mask = recording.padded(side)
    together = run(model, inputs)
    first = run(model, {key: value[:1] for key, value in recording.whole().items()})
    short = run(model, recording.short())
    for key, alone in short.items():
        found = real_part(key, together[key], mask, inputs["attention_mask"])
        assert np.array_equal(found, alone), f"{key} of the padded text"
        row = together[key][:, :1] if "states" in key or "attentions" in key else together[key][:1]
        assert np.array_equal(row, first[key]), f"{key} of the text beside it"


# ---- checkpoints as they are found


def as_bfloat16(value):
    """The upper half of each float32, rounded to even."""
    bits = value.view(np.uint32).astype(np.uint64)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def widened(value):
    if value.dtype == np.uint16:
        return (value.astype(np.uint32) << 16).view(np.float32)
    return value.astype(np.float32)


@pytest.mark.parametrize("narrow", [as_bfloat16, lambda value: value.astype(np.float16)], ids=["bfloat16", "float16"])
@pytest.mark.parametrize("name", BASES)
def test_narrow_weights_are_their_widened_selves(tmp_path, name, narrow):
    recording = load(name)
    weights = tensors(recording.shapes, recording.seed, recording.sinusoids)
    weights = {key: narrow(value) for key, value in weights.items()}
    inputs = recording.whole()
    model = open_recording(tmp_path / "narrow", recording, weights)
    stored = model.read_weights()
    matrices = [key for key in stored if ".blocks." in key and stored[key].ndim == 2]
    assert matrices
    assert all(stored.as_stored(key) for key in matrices), "every matrix of a block is handed out as it is stored"
    got = model(**inputs)
    wide = {key: widened(value) for key, value in weights.items()}
    want = open_recording(tmp_path / "wide", recording, wide)(**inputs)
    assert np.array_equal(got.last_hidden_state, want.last_hidden_state)


@pytest.mark.parametrize("name", BASES)
def test_shards_are_one_checkpoint(opened, tmp_path, name):
    recording, whole = load(name), opened(name)
    weights = tensors(recording.shapes, recording.seed, recording.sinusoids)
    folder = write_checkpoint(tmp_path, recording)
    (folder / "model.safetensors").unlink()
    places = {key: f"model-0000{1 + i % 2}-of-00002.safetensors" for i, key in enumerate(weights)}
    for place in set(places.values()):
        write_safetensors(folder / place, {key: weights[key] for key in weights if places[key] == place})
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))
    sharded = tfcore.AutoModel.from_pretrained(folder)
    inputs = recording.whole()
    assert np.array_equal(sharded(**inputs).last_hidden_state, whole(**inputs).last_hidden_state)


@pytest.mark.parametrize("name", BASES)
def test_wrong_tensors_are_listed_together(tmp_path, name):
    recording = load(name)
    weights = tensors(recording.shapes, recording.seed, recording.sinusoids)
    missing, misshaped = sorted(key for key in weights if ".0." in key and key.endswith("weight"))[:2]
    del weights[missing]
    weights[misshaped] = np.zeros((*weights[misshaped].shape, 2), np.float32)
    weights["adapter.weight"] = np.zeros(3, np.float32)
    with pytest.raises(ValueError, match="missing") as caught:
        open_recording(tmp_path, recording, weights)
    for key in (missing, misshaped, "adapter.weight"):
        assert f"'{key}'" in str(caught.value)


@pytest.mark.parametrize("auto_class", sorted(set(families.HEADS.values())))
def test_an_unknown_family_lists_those_known(tmp_path, auto_class):
    recording = load("bert.base")
    write_checkpoint(tmp_path, replace(recording, config=recording.config | {"model_type": "mamba"}))
    with pytest.raises(ValueError, match=r"model_type 'mamba' is not known, expected one of \w+"):
        getattr(tfcore, auto_class).from_pretrained(tmp_path)


TIED = {  # a tensor that Transformers leaves out → the one it stands for
    "bert.masked_lm": ("cls.predictions.decoder.weight", "bert.embeddings.word_embeddings.weight"),
    "roberta.masked_lm": ("lm_head.decoder.weight", "roberta.embeddings.word_embeddings.weight"),
    "distilbert.masked_lm": ("vocab_projector.weight", "distilbert.embeddings.word_embeddings.weight"),
    "electra.masked_lm": ("generator_lm_head.weight", "electra.embeddings.word_embeddings.weight"),
    "mpnet.masked_lm": ("lm_head.decoder.weight", "mpnet.embeddings.word_embeddings.weight"),
    "modernbert.masked_lm": ("decoder.weight", "model.embeddings.tok_embeddings.weight"),
    "gpt2.causal_lm": ("lm_head.weight", "transformer.wte.weight"),
    "llama-tied.causal_lm": ("lm_head.weight", "model.embed_tokens.weight"),
    "gemma3.causal_lm": ("lm_head.weight", "model.embed_tokens.weight"),
    "t5.seq2seq_lm": ("encoder.embed_tokens.weight", "shared.weight"),
    "bart.seq2seq_lm": ("model.decoder.embed_tokens.weight", "model.shared.weight"),
    "marian.seq2seq_lm": ("lm_head.weight", "model.shared.weight"),
}


@pytest.mark.parametrize("name", TIED)
def test_tied_tensors_may_be_stored_twice(opened, tmp_path, name):
    recording = load(name)
    copy, original = TIED[name]
    weights = tensors(recording.shapes, recording.seed, recording.sinusoids)
    assert copy not in weights
    twice = weights | {copy: weights[original]}
    inputs = recording.whole()
    got = open_recording(tmp_path, recording, twice)(**inputs).logits
    assert np.array_equal(got, opened(name)(**inputs).logits)


# ---- configs as older versions wrote them


def flat_rope(config):
    """Rotary fields as they were before Transformers 5: a base, and a dict where it is scaled."""
    rope = dict(config.pop("rope_parameters"))
    old = {"rope_theta": rope.pop("rope_theta")}
    if "partial_rotary_factor" in rope:
        old["partial_rotary_factor"] = rope.pop("partial_rotary_factor")
    return config | old | ({"rope_scaling": rope} if rope["rope_type"] != "default" else {})


def old_neox(config):
    rope = config.pop("rope_parameters")
    return config | {"rotary_emb_base": rope["rope_theta"], "rotary_pct": rope["partial_rotary_factor"]}


def old_gemma(config):
    rope = config.pop("rope_parameters")
    config.pop("layer_types")
    bases = {
        "rope_theta": rope["full_attention"]["rope_theta"],
        "rope_local_base_freq": rope["sliding_attention"]["rope_theta"],
    }
    return config | bases | {"sliding_window_pattern": 3}


def old_modernbert(config):
    rope = config.pop("rope_parameters")
    config.pop("layer_types")
    bases = {
        "global_rope_theta": rope["full_attention"]["rope_theta"],
        "local_rope_theta": rope["sliding_attention"]["rope_theta"],
    }
    return config | bases | {"global_attn_every_n_layers": 3}


OLDER = {
    "llama.base": flat_rope,
    "llama-llama3.base": flat_rope,
    "llama-yarn.base": flat_rope,
    "llama-linear.base": flat_rope,
    "llama-dynamic.base": flat_rope,
    "mistral.base": flat_rope,
    "qwen2.base": flat_rope,
    "qwen3.base": flat_rope,
    "phi3-partial.base": flat_rope,
    "phi3-longrope.base": flat_rope,
    "gpt_neox.base": old_neox,
    "gemma3.base": old_gemma,
    "modernbert.base": old_modernbert,
}


@pytest.mark.parametrize("name", OLDER)
def test_older_configs_say_the_same(opened, tmp_path, name):
    recording = load(name)
    older = replace(recording, config=OLDER[name](dict(recording.config)))
    inputs = recording.whole()
    got = open_recording(tmp_path, older)(**inputs).last_hidden_state
    assert np.array_equal(got, opened(name)(**inputs).last_hidden_state)


# ---- beside Transformers, where it is installed


WIDTHS = ("intermediate_size", "d_ff", "encoder_ffn_dim", "decoder_ffn_dim", "hidden_dim", "n_inner")
DEPTHS = ("num_hidden_layers", "num_layers", "encoder_layers", "n_layers", "n_layer")
LANGUAGE_MODELS = names("masked_lm", *families.GENERATING)
VARIANTS = {name.split(".")[0]: name for name in [*names("base", "encoder"), *LANGUAGE_MODELS]}  # the richer head


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", VARIANTS.values())
def test_other_sizes_beside_transformers(tmp_path, name, rng):
    """All that Transformers returns for a config of other depths and widths, and other weights and tokens."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    recording = load(name)
    kind = transformers.T5EncoderModel if recording.head == "encoder" else getattr(transformers, recording.auto_class)
    save_with_other_sizes(tmp_path, kind, transformers.AutoConfig.for_model(**varied(recording.config, rng)), rng)
    inputs = {key: value.astype(np.int64) for key, value in recording.whole().items()}
    for row in inputs["input_ids"]:
        rng.shuffle(row[1:-1])
    theirs = kind.from_pretrained(tmp_path, attn_implementation="eager").eval()
    with torch.no_grad():
        given = {key: torch.tensor(value) for key, value in inputs.items()}
        want = theirs(**given, output_hidden_states=True, output_attentions=True)
    got = run(getattr(tfcore, recording.auto_class).from_pretrained(tmp_path), inputs)
    caches = ("past_key_values", "cache")  # Transformers' own; renamed in 5.24
    for key in [key for key in want if key not in caches and len(want[key])]:
        assert_near(got[key], np.stack(want[key]) if isinstance(want[key], tuple) else want[key].numpy(), key)


def varied(config, rng):
    """The config with other inner widths, and other numbers of layers where it does not list them."""
    changes = {key: int(rng.integers(17, 70)) for key in WIDTHS if config.get(key)}
    if "layer_types" not in config:
        changes |= {key: int(rng.integers(1, 4)) for key in DEPTHS if key in config}
    return config | changes


def save_with_other_sizes(folder, kind, config, rng):
    model = kind(config) if config.architectures == ["T5EncoderModel"] else kind.from_config(config)
    model.save_pretrained(folder)
    path = folder / "model.safetensors"
    shapes = stored_shapes(path)
    is_marian = config.model_type == "marian"
    sinusoids = tuple(key for key in shapes if is_marian and key.endswith("embed_positions.weight"))
    write_safetensors(path, tensors(shapes, int(rng.integers(2**31)), sinusoids))


def stored_shapes(path):
    raw = path.read_bytes()
    header = json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])
    return {key: tuple(facts["shape"]) for key, facts in header.items() if key != "__metadata__"}
