"""The BERT family: Transformers' numbers, whatever the padding; checkpoints as they are found; errors by name."""

import json
import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import tfcore
from checkpoints import (
    CONFIG,
    VARIANTS,
    batch,
    bert_tensors,
    minilm,
    old_masked_lm_tensors,
    write_bert,
    write_safetensors,
    write_variant,
)
from tfcore import AutoModel, AutoTokenizer

GOLDEN = Path(__file__).parent / "golden"
CLOSE = 2e-5


@pytest.fixture(scope="module")
def golden():
    return np.load(GOLDEN / "bert.npz")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return AutoModel.from_pretrained(write_bert(tmp_path_factory.mktemp("bert")))


@pytest.fixture(scope="module")
def minilm_model():
    return AutoModel.from_pretrained(minilm())


def assert_near(got, want, bound=CLOSE):
    assert got.shape == want.shape
    error = np.abs(got - want)
    assert (error <= bound).all(), f"off by {error.max()} at {np.unravel_index(error.argmax(), error.shape)}"


# ---- Transformers' numbers


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_layer_of_a_small_checkpoint(tmp_path, golden, machine, variant):
    model = AutoModel.from_pretrained(write_variant(tmp_path, variant))
    real = batch()["attention_mask"].astype(bool)
    columns = np.arange(real.shape[1])[None]  # Transformers counts padding on the left as positions
    output = model(**batch(), position_ids=columns, output_hidden_states=True, output_attentions=True)
    assert len(output.hidden_states) == CONFIG["num_hidden_layers"] + 1
    for got, want in zip(output.hidden_states, golden[f"{variant}.hidden_states"], strict=True):
        assert_near(got, want * real[..., None])
    assert len(output.attentions) == CONFIG["num_hidden_layers"]
    for got, want in zip(output.attentions, golden[f"{variant}.attentions"], strict=True):
        assert_near(got, want * real[:, None, :, None])
    assert np.array_equal(output.last_hidden_state, output.hidden_states[-1])
    if f"{variant}.pooler_output" in golden:
        starts = real[:, 0]  # Transformers pools what its padding computed where column 0 is masked
        assert_near(output.pooler_output[starts], golden[f"{variant}.pooler_output"][starts])
    else:
        assert output.pooler_output is None


def test_minilm(minilm_model):
    golden = np.load(GOLDEN / "minilm.npz")
    output = minilm_model(
        golden["input_ids"], golden["attention_mask"], golden["token_type_ids"], output_hidden_states=True
    )
    assert_near(output.last_hidden_state[:, golden["tokens"]], golden["last_hidden_state"])
    assert_near(output.last_hidden_state.sum(1), golden["last_hidden_state_sum"], CLOSE * golden["input_ids"].shape[1])
    assert_near(output.pooler_output, golden["pooler_output"])
    first = np.stack([states[:, 0] for states in output.hidden_states])
    assert_near(first[..., ::6], golden["first_token_by_layer"])


@pytest.mark.filterwarnings("ignore")
def test_minilm_beside_transformers(minilm_model):
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    theirs = transformers.AutoModel.from_pretrained(minilm(), attn_implementation="eager")
    texts = ["The tutorial's own lines.", "x", "Ein längerer Satz, der auf 東京 endet. " * 12, ""]
    inputs = AutoTokenizer.from_pretrained(minilm())(texts, padding=True, return_tensors="pt")
    with torch.no_grad():
        want = theirs(**inputs, output_hidden_states=True, output_attentions=True)
    got = minilm_model(**inputs, output_hidden_states=True, output_attentions=True)
    real = inputs["attention_mask"].numpy()
    for ours, other in zip(got.hidden_states, want.hidden_states, strict=True):
        assert_near(ours, other.numpy() * real[..., None])
    for ours, other in zip(got.attentions, want.attentions, strict=True):
        assert_near(ours, other.numpy() * real[:, None, :, None])
    assert_near(got.pooler_output, want.pooler_output.numpy())


def test_the_tutorials_lines():
    tokenizer = AutoTokenizer.from_pretrained(minilm())
    model = AutoModel.from_pretrained(minilm()).eval()
    inputs = tokenizer("Understanding Transformers is fascinating!", return_tensors="np")
    outputs = model(**inputs)
    assert outputs.last_hidden_state.shape == (1, 7, 384)
    assert outputs.last_hidden_state.dtype == np.float32
    assert model.num_parameters() == 22_713_216
    assert model.config.hidden_size == 384


# ---- a text does not depend on its company


def test_padding_and_batch_leave_the_bits_alone(model, machine):
    ids = batch()["input_ids"]
    alone = [model([row[:n].tolist()]).last_hidden_state[0] for row, n in zip(ids, (9, 5, 3, 1), strict=True)]
    padded = np.zeros((4, 13), int)
    mask = np.zeros((4, 13), int)
    for row, n in enumerate((9, 5, 3, 1)):
        padded[row, :n], mask[row, :n] = ids[row, :n], 1
    together = model(padded, mask).last_hidden_state
    for row, states in enumerate(alone):
        assert np.array_equal(together[row, : len(states)], states)
        assert not together[row, len(states) :].any(), "masked positions are zeros"


@pytest.mark.parametrize("positions", [None, [[0, 0, 0, 0, 1, 2, 3, 4]]])
def test_padding_on_the_left(model, positions):
    ids = batch()["input_ids"][:1, :5]
    alone = model(ids)
    padded = np.concatenate([np.zeros((1, 3), int), ids], axis=1)
    mask = [[0, 0, 0, 1, 1, 1, 1, 1]]
    output = model(padded, mask, position_ids=positions, output_attentions=True)
    assert np.array_equal(output.last_hidden_state[:, 3:], alone.last_hidden_state)
    assert not output.last_hidden_state[:, :3].any()
    assert np.array_equal(output.pooler_output, alone.pooler_output)
    weights = output.attentions[0]
    assert weights.shape == (1, 4, 8, 8)
    assert not weights[..., :3].any()
    assert not weights[:, :, :3].any()
    assert np.allclose(weights[:, :, 3:].sum(-1), 1)


def test_what_is_masked_is_never_read(model):
    inputs = batch()
    want = model(**inputs).last_hidden_state
    inputs["input_ids"][inputs["attention_mask"] == 0] = 10**9
    inputs["token_type_ids"][inputs["attention_mask"] == 0] = -5
    assert np.array_equal(model(**inputs).last_hidden_state, want)


def test_a_text_of_nothing(model):
    output = model([[1, 2, 3], [0, 0, 0]], [[1, 1, 1], [0, 0, 0]], output_attentions=True)
    assert np.array_equal(output.last_hidden_state[:1], model([[1, 2, 3]]).last_hidden_state)
    assert not output.last_hidden_state[1].any()
    assert not output.attentions[0][1].any()


@pytest.mark.parametrize("shape", [(0, 5), (0, 0), (2, 0)])
def test_no_tokens_at_all(model, shape):
    output = model(np.zeros(shape, int), output_hidden_states=True, output_attentions=True)
    assert output.last_hidden_state.shape == (*shape, 32)
    assert output.attentions[0].shape == (shape[0], 4, shape[1], shape[1])


def test_many_threads_at_once(model):
    inputs = batch()
    want = model(**inputs).last_hidden_state
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda _: model(**inputs).last_hidden_state, range(64)))
    assert all(np.array_equal(got, want) for got in results)


def test_every_thread_count_gives_the_same_bits(minilm_model):
    ids = np.random.default_rng(0).integers(1000, 20000, (3, 40))
    results = []
    for threads in (1, 2, 5):
        with tfcore.num_threads(threads):
            results.append(minilm_model(ids).last_hidden_state)
    assert np.array_equal(results[0], results[1])
    assert np.array_equal(results[0], results[2])


# ---- arguments and outputs


def test_lists_arrays_and_tensors(model):
    ids = batch()["input_ids"]
    want = model(ids).last_hidden_state
    for same in (ids.tolist(), tuple(map(tuple, ids)), ids.astype(np.uint8), np.asfortranarray(ids), ids[::-1][::-1]):
        assert np.array_equal(model(same).last_hidden_state, want)
    for mask in (np.ones(ids.shape, bool), np.ones(ids.shape, np.float32), np.ones(ids.shape, int).tolist()):
        assert np.array_equal(model(ids, mask).last_hidden_state, want)
    assert np.array_equal(model(ids, position_ids=[list(range(9))]).last_hidden_state, want)


@pytest.mark.filterwarnings("ignore")
def test_torch_tensors(model):
    torch = pytest.importorskip("torch")
    inputs = batch()
    got = model(**{name: torch.tensor(value) for name, value in inputs.items()})
    assert isinstance(got.last_hidden_state, np.ndarray)
    assert np.array_equal(got.last_hidden_state, model(**inputs).last_hidden_state)


def test_outputs_by_attribute_key_and_index(model):
    output = model(**batch())
    assert list(output) == list(output.keys()) == ["last_hidden_state", "pooler_output"]
    assert output[0] is output["last_hidden_state"] is output.last_hidden_state
    assert output[-1] is output.pooler_output
    assert output[:2] == output.to_tuple()
    assert output.hidden_states is None
    assert "attentions" not in output
    assert output.get("attentions") is None
    with pytest.raises(KeyError, match="attentions"):
        output["attentions"]
    with pytest.raises(IndexError):
        output[2]
    everything = model(**batch(), output_hidden_states=True, output_attentions=True)
    assert list(everything) == ["last_hidden_state", "pooler_output", "hidden_states", "attentions"]
    pair = model(**batch(), return_dict=False)
    assert isinstance(pair, tuple)
    assert np.array_equal(pair[1], output.pooler_output)


def test_a_pickle_opens_the_folder_again(model):
    again = pickle.loads(pickle.dumps(model))
    assert np.array_equal(again(**batch()).last_hidden_state, model(**batch()).last_hidden_state)


def test_the_folder_can_go_once_the_model_is_open(tmp_path):
    folder = write_bert(tmp_path / "bert")
    model = AutoModel.from_pretrained(str(folder))
    want = model(**batch()).last_hidden_state
    (folder / "model.safetensors").write_bytes(bytes((folder / "model.safetensors").stat().st_size))
    assert np.array_equal(model(**batch()).last_hidden_state, want)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"input_ids": None}, TypeError, "input_ids is missing"),
        ({"input_ids": [1, 2, 3]}, ValueError, r"input_ids has shape \(3,\), expected \(B, L\)"),
        ({"input_ids": [[[1]]]}, ValueError, r"input_ids has shape \(1, 1, 1\)"),
        ({"input_ids": [[1, 2], [3]]}, ValueError, "input_ids is ragged.*padding=True"),
        ({"input_ids": [[1.0, 2.0]]}, TypeError, "input_ids holds float64, expected integers"),
        ({"input_ids": [["a"]]}, TypeError, "input_ids holds"),
        ({"input_ids": [[True]]}, TypeError, "input_ids holds bool"),
        ({"input_ids": [[None]]}, TypeError, "input_ids holds object"),
        ({"input_ids": [[3, 40, 41, 7]]}, ValueError, "input_ids holds 41, but the vocabulary has 40"),
        ({"input_ids": [[3, -1]]}, ValueError, "input_ids holds -1, but the vocabulary has 40: expected 0 to 39"),
        ({"input_ids": [[2**63 - 1]]}, ValueError, "input_ids holds 9223372036854775807, but the vocabulary has 40"),
        ({"input_ids": [[2**64 - 1]]}, ValueError, "input_ids holds 18446744073709551615, expected integers of 64 bit"),
        ({"input_ids": [[2**70]]}, ValueError, "input_ids holds 1180591620717411303424, expected integers of 64 bits"),
        ({"input_ids": [[10**5000]]}, ValueError, "input_ids holds a number of thousands of digits, expected"),
        ({"input_ids": {"input_ids": [[3, 4]]}}, TypeError, r"input_ids is a dict: pass \*\*inputs"),
        ({"token_type_ids": [[0, 2]]}, ValueError, "token_type_ids holds 2, but token types known are 2"),
        ({"token_type_ids": [[0, 1, 1]]}, ValueError, r"token_type_ids has shape \(1, 3\), expected \(1, 2\)"),
        ({"token_type_ids": [[0.0, 1.0]]}, TypeError, "token_type_ids holds float64"),
        ({"position_ids": [[0, 24]]}, ValueError, "position_ids holds 24, but positions known are 24"),
        ({"position_ids": [[0], [1], [2]]}, ValueError, r"position_ids has shape \(3, 1\), expected \(1, 2\)"),
        ({"attention_mask": [[1]] * 2}, ValueError, r"attention_mask has shape \(2, 1\), expected \(1, 2\)"),
        ({"attention_mask": [[[[1, 1]]]]}, ValueError, r"attention_mask has shape \(1, 1, 1, 2\), expected \(1, 2\)"),
        ({"attention_mask": [[1, 2]]}, ValueError, "attention_mask holds 2, expected only 1 .* and 0"),
        ({"attention_mask": [[0.0, -1e9]]}, ValueError, "attention_mask holds -1000000000.0"),
        ({"attention_mask": [[1, float("nan")]]}, ValueError, "attention_mask holds nan"),
        ({"attention_mask": [["1", "0"]]}, TypeError, "attention_mask holds"),
    ],
)
def test_wrong_arguments_are_named(model, arguments, error, message):
    with pytest.raises(error, match=message):
        model(**{"input_ids": [[3, 4]], **arguments})


def test_a_text_too_long_says_how_to_cut_it(model):
    ids = np.full((2, 25), 7)
    with pytest.raises(ValueError, match=r"25 tokens, but the model has 24 positions.*truncation=True, max_length=24"):
        model(ids)
    mask = np.ones((2, 25), int)
    mask[:, 24] = 0
    assert np.array_equal(model(ids, mask).last_hidden_state[:, :24], model(ids[:, :24]).last_hidden_state)


# ---- checkpoints as they are found


def open_with(folder, config=None, tensors=None):
    return AutoModel.from_pretrained(write_bert(folder, config, tensors))


def test_heads_and_buffers_are_left_out(tmp_path, model):
    extras = {
        "embeddings.position_ids": np.arange(24)[None],
        "embeddings.token_type_ids": np.zeros((1, 24), np.int64),
        "cls.predictions.bias": np.zeros(40, np.float32),
        "classifier.weight": np.zeros((2, 32), np.float32),
        "classifier.bias": np.zeros(2, np.float32),
        "qa_outputs.weight": np.zeros((2, 32), np.float32),
    }
    found = open_with(tmp_path, tensors=bert_tensors() | extras)
    assert np.array_equal(found(**batch()).last_hidden_state, model(**batch()).last_hidden_state)
    assert found.num_parameters() == model.num_parameters() == sum(t.size for t in bert_tensors().values())


def test_half_precision_and_shards(tmp_path, model):
    tensors = list(bert_tensors().items())
    halves = {"one.safetensors": dict(tensors[:20]), "two.safetensors": dict(tensors[20:])}
    folder = write_bert(tmp_path)
    (folder / "model.safetensors").unlink()
    for file, part in halves.items():
        write_safetensors(folder / file, {name: tensor.astype(np.float16) for name, tensor in part.items()})
    weight_map = {name: file for file, part in halves.items() for name in part}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    got = AutoModel.from_pretrained(folder)(**batch()).last_hidden_state
    rounded = {name: tensor.astype(np.float16).astype(np.float32) for name, tensor in tensors}
    assert np.array_equal(got, open_with(tmp_path / "wide", tensors=rounded)(**batch()).last_hidden_state)
    assert np.abs(got - model(**batch()).last_hidden_state).max() > 0, "rounding to 16 bits is seen"


def test_defaults_of_old_configs(tmp_path, model):
    fields = {name: value for name, value in CONFIG.items() if name not in ("type_vocab_size", "layer_norm_eps")}
    got = open_with(tmp_path, fields)(**batch()).last_hidden_state
    assert np.array_equal(got, model(**batch()).last_hidden_state)


QUERY = "encoder.layer.1.attention.self.query.weight"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({QUERY: None}, rf"tensor '{QUERY}' is missing"),
        ({"pooler.dense.bias": None}, "tensor 'pooler.dense.bias' is missing"),
        (
            {QUERY: np.zeros((32, 31), np.float32)},
            rf"model\.safetensors: tensor '{QUERY}' has shape \(32, 31\), expected \(32, 32\)",
        ),
        ({"embeddings.word_embeddings.weight": np.zeros((41, 32), np.float32)}, r"\(41, 32\), expected \(40, 32\)"),
        ({"encoder.layer.0.output.dense.weight": np.zeros((48, 32), np.float32)}, r"\(48, 32\), expected \(32, 48\)"),
        ({QUERY: np.zeros((32, 32), np.int64)}, rf"tensor '{QUERY}' is of dtype I64, expected one of F16"),
        ({"encoder.layer.0.adapter.weight": np.zeros(3, np.float32)}, "'encoder.layer.0.adapter.weight' is unknown"),
        ({"encoder.layer.2.output.dense.bias": np.zeros(32, np.float32)}, "'encoder.layer.2.output.dense.bias' is unk"),
        ({f"bert.{QUERY}": np.zeros((32, 32), np.float32)}, rf"'{QUERY}' and 'bert\.{QUERY}' are both '{QUERY}'"),
        (
            {"embeddings.LayerNorm.gamma": np.zeros(32, np.float32)},
            r"'embeddings\.LayerNorm\.weight' and 'embeddings\.LayerNorm\.gamma' are both",
        ),
    ],
)
def test_a_wrong_tensor_is_named(tmp_path, change, message):
    tensors = {name: tensor for name, tensor in (bert_tensors() | change).items() if tensor is not None}
    with pytest.raises(ValueError, match=message):
        open_with(tmp_path, tensors=tensors)


def test_all_wrong_tensors_are_listed(tmp_path):
    tensors = {f"new.{name}": tensor for name, tensor in bert_tensors().items()}
    with pytest.raises(ValueError, match=r"is missing\n(.*\n)+… and 32 more\n") as caught:
        open_with(tmp_path, tensors=tensors)
    assert "tensor 'new.embeddings.word_embeddings.weight' is unknown" in str(caught.value)
    assert str(caught.value).endswith("… and 34 more")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "bort"}, "model_type 'bort' is not known, expected one of bert"),
        ({"model_type": None}, "field 'model_type' is missing"),
        ({"model_type": 3}, "field 'model_type' is 3, expected a string"),
        ({"hidden_size": None}, "field 'hidden_size' is missing"),
        ({"hidden_size": "32"}, "field 'hidden_size' is \"32\", expected a positive integer"),
        ({"hidden_size": 30}, "field 'hidden_size' is 30, expected a multiple of 'num_attention_heads', 4"),
        ({"num_attention_heads": 0}, "field 'num_attention_heads' is 0, expected a positive integer"),
        ({"num_hidden_layers": -2}, "field 'num_hidden_layers' is -2"),
        ({"num_hidden_layers": 10**15}, "field .num_hidden_layers. is 1000000000000000, expected at most 10000"),
        ({"num_hidden_layers": 3}, r"tensor 'encoder\.layer\.2\..*' is missing"),
        ({"num_hidden_layers": 1}, r"tensor 'encoder\.layer\.1\..*' is unknown"),
        ({"vocab_size": 10**12}, r"has shape \(40, 32\), expected \(1000000000000, 32\)"),
        ({"layer_norm_eps": "1e-12"}, "field 'layer_norm_eps' is \"1e-12\", expected a positive number"),
        ({"hidden_act": "mish"}, "field 'hidden_act' is \"mish\", expected one of gelu, gelu_new"),
        ({"position_embedding_type": "relative_key"}, "field 'position_embedding_type' is \"relative_key\""),
        ({"is_decoder": True}, "field 'is_decoder' is true, expected false: nothing else is implemented"),
    ],
)
def test_a_wrong_config_field_is_named(tmp_path, change, message):
    with pytest.raises(ValueError, match=message) as caught:
        open_with(tmp_path, CONFIG | change)
    assert str(tmp_path) in str(caught.value)


def test_missing_files_are_named(tmp_path):
    folder = write_bert(tmp_path / "bert")
    (folder / "config.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"config\.json"):
        AutoModel.from_pretrained(folder)
    with pytest.raises(FileNotFoundError, match="no such folder"):
        AutoModel.from_pretrained(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="is a file, expected a checkpoint's folder"):
        AutoModel.from_pretrained(folder / "vocab.txt")


def test_a_truncated_download_is_named(tmp_path):
    folder = write_bert(tmp_path)
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"model\.safetensors: truncated: tensor '.*' ends at byte"):
        AutoModel.from_pretrained(folder)


def test_old_names_are_the_new_ones(tmp_path):
    """The same numbers under old names and new ones are the same model."""
    old = old_masked_lm_tensors()
    new = {
        name.removeprefix("bert.").replace("gamma", "weight").replace("beta", "bias"): tensor
        for name, tensor in old.items()
        if name.startswith("bert.")
    }
    outputs = [open_with(tmp_path / key, tensors=t)(**batch()) for key, t in (("old", old), ("new", new))]
    assert np.array_equal(outputs[0].last_hidden_state, outputs[1].last_hidden_state)
    assert outputs[0].pooler_output is outputs[1].pooler_output is None


# ---- lines written for PyTorch


def test_devices_and_dtypes_of_a_tutorial(tmp_path):
    folder = write_variant(tmp_path)
    model = AutoModel.from_pretrained(folder, torch_dtype="auto", device_map="cpu").to("cpu").eval()
    inputs = AutoTokenizer.from_pretrained(folder)("the two", return_tensors="np").to(model.device)
    assert np.array_equal(model(**inputs)[0], AutoModel.from_pretrained(folder)(**inputs)[0])
    with pytest.raises(ValueError, match="device is 'cuda', expected 'cpu'"):
        model.to("cuda")
    with pytest.raises(ValueError, match="device is 'cuda:0', expected 'cpu'"):
        inputs.to("cuda:0")
    with pytest.raises(TypeError, match=r"unknown argument 'device', expected .* or one of attn_implementation"):
        AutoModel.from_pretrained(folder, device="cpu")
