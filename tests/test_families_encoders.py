"""Encoders' own ways: positions that skip padding, names in old checkpoints, and variants that are refused by name."""

from dataclasses import replace

import numpy as np
import pytest
import tfcore
from family_checkpoints import load, tensors, write_checkpoint
from tfcore.models.packing import PackedTokens

MASKED = {  # the recorded language models → what precedes their names, and the module of their last layer
    "roberta.masked_lm": ("roberta.", "lm_head.decoder"),
    "xlm-roberta.masked_lm": ("roberta.", "lm_head.decoder"),
    "mpnet.masked_lm": ("mpnet.", "lm_head.decoder"),
    "electra.masked_lm": ("electra.", "generator_lm_head"),
    "distilbert.masked_lm": ("distilbert.", "vocab_projector"),
    "modernbert.masked_lm": ("model.", "decoder"),
}
BERT_LIKE = [name for name in MASKED if not name.startswith("modernbert")]


def weights_of(recording):
    return tensors(recording.shapes, recording.seed, recording.sinusoids)


def open_as(folder, recording, weights=None, *, auto_class=None, **fields):
    """The recording's checkpoint with other weights, other fields, or for another task."""
    write_checkpoint(folder, replace(recording, config=recording.config | fields), weights)
    return getattr(tfcore, auto_class or recording.auto_class).from_pretrained(folder)


def logits_of(folder, recording, weights=None, **fields):
    return open_as(folder, recording, weights, **fields)(**recording.whole()).logits


def words_of(weights):
    [name] = [name for name in weights if name.endswith(("word_embeddings.weight", "tok_embeddings.weight"))]
    return name


# ---- positions that skip padding

SKIPPING = {  # base models → the token that takes no position
    "roberta.base": 1,
    "xlm-roberta.base": 1,
    "roberta-padding-at-3.base": 3,
    "mpnet.base": 1,
}


def ids_with(pad):
    """A text with pad tokens among its words, and one with pad tokens after it."""
    a, b, c, d = 7, 12, 30, 9
    return np.array([[a, pad, b, c, pad, pad, d, a], [c, d, a, b, b, pad, pad, pad]])


@pytest.mark.parametrize(("name", "pad"), SKIPPING.items())
def test_a_pad_token_takes_no_position_even_unmasked(tmp_path, name, pad):
    model, ids = open_as(tmp_path, load(name)), ids_with(pad)
    rows = np.where(ids == pad, pad, pad + np.cumsum(ids != pad, axis=1))  # of the table, counted from 1
    want = model(ids, position_ids=rows).last_hidden_state
    assert np.array_equal(model(ids).last_hidden_state, want)
    packed = model.forward_packed(PackedTokens.from_texts(ids))
    assert np.array_equal(packed, want.reshape(packed.shape))
    columns = np.arange(ids.shape[1]) + pad + 1
    assert not np.array_equal(model(ids, position_ids=columns[None]).last_hidden_state, want)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("name", "pad"), SKIPPING.items())
def test_positions_beside_transformers(tmp_path, name, pad):
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    model, ids = open_as(tmp_path, load(name)), ids_with(pad)
    theirs = transformers.AutoModel.from_pretrained(tmp_path, attn_implementation="eager").eval()
    hidden = np.ones_like(ids)
    hidden[0, 2:5] = hidden[1, 5:] = 0  # a hole of a word and two pad tokens, and padding
    masks = [np.ones_like(ids)] if name.startswith("mpnet") else [np.ones_like(ids), hidden]
    for mask in masks:
        with torch.no_grad():
            want = theirs(torch.tensor(ids), torch.tensor(mask)).last_hidden_state.numpy()
        error = np.abs(model(ids, mask).last_hidden_state - want * mask[..., None])
        assert (error <= 2e-5 * want.std()).all(), f"off by {error.max()}"


def test_padding_of_another_kind_is_the_masks_matter(tmp_path):
    """A text padded on the left with what is no pad token of the model's has its own numbers all the same."""
    model = open_as(tmp_path, load("mpnet.base"))
    text = np.array([[5, 6, 7, 8]])
    padded = np.concatenate([[[0, 0, 9]], text], axis=1)
    got = model(padded, [[0, 0, 0, 1, 1, 1, 1]]).last_hidden_state
    assert np.array_equal(got[:, 3:], model(text).last_hidden_state)


def test_texts_of_nothing_and_of_padding_alone(tmp_path):
    model = open_as(tmp_path, load("roberta.base"))
    assert model(np.zeros((2, 0), int)).last_hidden_state.shape == (2, 0, 32)
    assert model(np.zeros((0, 3), int)).last_hidden_state.shape == (0, 3, 32)
    output = model([[5, 6], [1, 1]], [[1, 1], [0, 0]])
    assert not output.last_hidden_state[1].any()
    assert np.isfinite(model([[1, 1]]).last_hidden_state).all()


def test_as_many_positions_as_the_table_has_after_the_pad_tokens(tmp_path):
    model = open_as(tmp_path, load("roberta.base"))
    assert model.max_length == 30
    assert model(np.full((1, 30), 7)).last_hidden_state.shape == (1, 30, 32)
    with pytest.raises(ValueError, match="31 tokens, but the model has 30 positions"):
        model(np.full((1, 31), 7))
    with pytest.raises(ValueError, match="position_ids holds 32, but positions known are 32: expected 0 to 31"):
        model([[5, 6]], position_ids=[[2, 32]])


def test_relative_positions_do_not_follow_those_given(tmp_path):
    """Distances are between tokens: small positions of a long text are no smaller distances."""
    recording = load("mpnet.base")
    shapes = recording.shapes | {"embeddings.position_embeddings.weight": (202, 32)}
    model = open_as(tmp_path, recording, tensors(shapes, 0), max_position_embeddings=202)
    ids = np.random.RandomState(0).randint(5, 60, (1, 200))
    states = model(ids, position_ids=np.zeros_like(ids)).last_hidden_state
    assert np.isfinite(states).all()
    assert not np.array_equal(states, model(ids).last_hidden_state)


# ---- checkpoints as they are found


@pytest.mark.parametrize("name", MASKED)
def test_a_tied_table_is_found_under_its_other_name(tmp_path, name):
    recording = load(name)
    weights = weights_of(recording)
    want = logits_of(tmp_path / "plain", recording, weights)
    weights[f"{MASKED[name][1]}.weight"] = weights.pop(words_of(weights))
    assert np.array_equal(logits_of(tmp_path / "other", recording, weights), want)
    del weights[f"{MASKED[name][1]}.weight"]
    with pytest.raises(ValueError, match=r"(word|tok)_embeddings\.weight' is missing"):
        logits_of(tmp_path / "neither", recording, weights)


@pytest.mark.parametrize("name", MASKED)
def test_a_table_in_the_file_is_not_tied(tmp_path, name):
    """Whatever the config says, as in Transformers; a config that unties wants one."""
    recording = load(name)
    weights = weights_of(recording)
    with pytest.raises(ValueError, match=rf"'{MASKED[name][1]}\.weight' is missing"):
        logits_of(tmp_path / "untied", recording, weights, tie_word_embeddings=False)
    own = weights | {f"{MASKED[name][1]}.weight": weights[words_of(weights)][::-1].copy()}
    tied = logits_of(tmp_path / "tied", recording, own)
    assert np.array_equal(tied, logits_of(tmp_path / "untied", recording, own, tie_word_embeddings=False))
    bias = next((weights[key] for key in weights if key in (f"{MASKED[name][1]}.bias", "lm_head.bias")), None)
    plain = logits_of(tmp_path / "plain", recording, weights) - bias
    assert np.allclose(tied - bias, plain[..., ::-1], atol=1e-5)


@pytest.mark.parametrize("name", [name for name in MASKED if MASKED[name][1].startswith("lm_head")])
def test_a_bias_saved_twice(tmp_path, name):
    recording = load(name)
    weights = weights_of(recording)
    want = logits_of(tmp_path / "once", recording, weights)
    bias = weights["lm_head.bias"]
    assert np.array_equal(logits_of(tmp_path / "twice", recording, weights | {"lm_head.decoder.bias": bias}), want)
    del weights["lm_head.bias"]
    assert np.array_equal(logits_of(tmp_path / "other", recording, weights | {"lm_head.decoder.bias": bias}), want)


@pytest.mark.parametrize("name", BERT_LIKE)
def test_old_names_and_buffers(tmp_path, name):
    recording = load(name)
    weights = weights_of(recording)
    want = logits_of(tmp_path / "new", recording, weights)
    prefix = MASKED[name][0]
    old = {
        key.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): value
        for key, value in weights.items()
    }
    old[f"{prefix}embeddings.position_ids"] = np.arange(32)[None]
    old[f"{prefix}embeddings.token_type_ids"] = np.zeros((1, 32), np.int64)
    old["classifier.weight"] = old["qa_outputs.weight"] = np.zeros((2, 32), np.float32)  # of other tasks
    assert np.array_equal(logits_of(tmp_path / "old", recording, old), want)


@pytest.mark.parametrize("name", MASKED)
def test_the_model_alone_from_a_checkpoint_with_a_head(tmp_path, name):
    """Prefixed or not, with a pooler or without: the same states."""
    recording = load(name)
    weights, prefix = weights_of(recording), MASKED[name][0]
    headed = open_as(tmp_path / "headed", recording, weights, auto_class="AutoModel")
    bare = {key.removeprefix(prefix): value for key, value in weights.items() if key.startswith(prefix)}
    alone = open_as(tmp_path / "alone", recording, bare, auto_class="AutoModel")
    want = headed(**recording.whole())
    assert want.pooler_output is None
    assert np.array_equal(alone(**recording.whole()).last_hidden_state, want.last_hidden_state)
    assert alone.num_parameters() == headed.num_parameters() == sum(value.size for value in bare.values())
    if name.split(".")[0] in ("roberta", "xlm-roberta", "mpnet"):
        pooler = {"pooler.dense.weight": np.eye(32, dtype=np.float32), "pooler.dense.bias": np.zeros(32, np.float32)}
        got = open_as(tmp_path / "pooler", recording, bare | pooler, auto_class="AutoModel")(**recording.whole())
        assert np.allclose(got.pooler_output, np.tanh(got.last_hidden_state[:, 0]), atol=1e-6)
        assert np.array_equal(got.last_hidden_state, want.last_hidden_state)
        headed_too = {f"{prefix}{key}": value for key, value in pooler.items()}
        logits = logits_of(tmp_path / "both", recording, weights | headed_too)
        assert np.array_equal(logits, logits_of(tmp_path / "one", recording, weights))


def test_an_electra_discriminators_head_of_training_is_left_out(tmp_path):
    recording = load("electra.base")
    weights = {f"electra.{key}": value for key, value in weights_of(recording).items()}
    extra = {
        "discriminator_predictions.dense.weight": np.zeros((32, 32), np.float32),
        "discriminator_predictions.dense.bias": np.zeros(32, np.float32),
        "discriminator_predictions.dense_prediction.weight": np.zeros((1, 32), np.float32),
        "discriminator_predictions.dense_prediction.bias": np.zeros(1, np.float32),
    }
    got = open_as(tmp_path / "pretraining", recording, weights | extra)(**recording.whole())
    want = open_as(tmp_path / "plain", recording)(**recording.whole())
    assert np.array_equal(got.last_hidden_state, want.last_hidden_state)


def test_modernberts_fields_of_old(tmp_path):
    """Those of the checkpoints on the hub, which name no layer types; what they leave out has its default."""
    recording = load("modernbert.base")
    today = {"layer_types", "rope_parameters", "classifier_bias", "norm_bias", "attention_bias", "mlp_bias", "norm_eps"}
    config = {key: value for key, value in recording.config.items() if key not in today}
    old = replace(recording, config=config)
    want = open_as(tmp_path / "today", recording)(**recording.whole()).last_hidden_state
    bases = {"global_rope_theta": 160000.0, "local_rope_theta": 10000.0, "position_embedding_type": "absolute"}
    assert np.array_equal(open_as(tmp_path / "old", old, **bases)(**recording.whole()).last_hidden_state, want)
    assert np.array_equal(open_as(tmp_path / "bare", old)(**recording.whole()).last_hidden_state, want)
    other = open_as(tmp_path / "other", old, local_rope_theta=50.0)(**recording.whole()).last_hidden_state
    assert not np.array_equal(other, want)
    null, same = (
        {"global_rope_theta": 50.0, "local_rope_theta": base} for base in (None, 50.0)
    )  # null: the global one
    got = open_as(tmp_path / "null", old, **null)(**recording.whole()).last_hidden_state
    assert np.array_equal(got, open_as(tmp_path / "same", old, **same)(**recording.whole()).last_hidden_state)


def test_a_window_wider_than_any_text_is_none(tmp_path):
    recording = load("modernbert.base")
    got, want = (open_as(tmp_path / str(n), recording, local_attention=n)(**recording.whole()) for n in (2**40, 10**4))
    assert np.array_equal(got.last_hidden_state, want.last_hidden_state)


# ---- variants that are not implemented


@pytest.mark.parametrize(
    ("name", "field", "value", "message"),
    [
        ("roberta", "position_embedding_type", "relative_key", "nothing else is implemented"),
        ("roberta", "is_decoder", True, "expected false: nothing else is implemented"),
        ("xlm-roberta", "add_cross_attention", True, "expected false: nothing else is implemented"),
        ("xlm-roberta", "pad_token_id", -1, "expected a token's id: 0 or a positive integer"),
        ("roberta", "pad_token_id", "1", "expected a token's id"),
        ("electra", "position_embedding_type", "relative_key_query", "nothing else is implemented"),
        ("electra", "embedding_size", 0, "expected a positive integer"),
        ("electra", "hidden_act", "quick_gelu", "expected one of gelu, "),
        ("mpnet", "relative_attention_num_buckets", 64, "expected 32: nothing else is implemented"),
        ("distilbert", "dim", 30, "expected a multiple of 'n_heads', 4"),
        ("distilbert", "activation", "mish", "expected one of gelu, "),
        ("modernbert", "layer_types", ["full_attention"], "expected 4 of 'full_attention' and 'sliding_attention'"),
        ("modernbert", "layer_types", ["chunked_attention"] * 4, "expected 4 of 'full_attention'"),
        ("modernbert", "classifier_pooling", "max", "expected one of cls, mean"),
        ("modernbert", "local_attention", 0, "expected a positive integer"),
        ("modernbert", "norm_bias", 1, "expected true or false"),
    ],
)
def test_a_wrong_field_is_named(tmp_path, name, field, value, message):
    with pytest.raises(ValueError, match=message) as caught:
        open_as(tmp_path, load(f"{name}.base"), **{field: value})
    assert f"{tmp_path / 'config.json'}: field '{field}' is" in str(caught.value)


def test_a_table_of_positions_too_small_for_its_pad_tokens(tmp_path):
    with pytest.raises(ValueError, match="'max_position_embeddings' is 32, expected more than 32, where positions"):
        open_as(tmp_path, load("roberta.base"), pad_token_id=31)


@pytest.mark.parametrize("name", ["roberta", "xlm-roberta", "mpnet", "electra", "distilbert", "modernbert"])
def test_heads_that_a_family_lacks_are_named(tmp_path, name):
    with pytest.raises(ValueError, match=rf"type '{name}' have no head for causal_lm, those known are: masked_lm, que"):
        open_as(tmp_path, load(f"{name}.base"), auto_class="AutoModelForCausalLM")
