"""Lines of Transformers' tutorials that ask a model what it is and where, beside Transformers where it is installed."""

from __future__ import annotations

import copy
import json
import pickle

import numpy as np
import pytest
import tfcore
from checkpoints import minilm, write_bert
from family_checkpoints import load, names, write_checkpoint
from tfcore import AutoModel

LOWEST = np.finfo(np.float32).min
SHARED = (  # what Transformers' configs have under one name, whatever the family
    *("hidden_size", "num_hidden_layers", "num_attention_heads", "max_position_embeddings", "head_dim"),
    *("pad_token_id", "bos_token_id", "eos_token_id", "is_encoder_decoder", "id2label", "label2id", "num_labels"),
)
QUESTIONS = names("question_answering")


def opened(folder, name):
    recording = load(name)
    write_checkpoint(folder, recording)
    return recording, getattr(tfcore, recording.auto_class).from_pretrained(folder)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return AutoModel.from_pretrained(write_bert(tmp_path_factory.mktemp("bert")))


# ---- config


@pytest.mark.parametrize("name", [*names("base"), *names("sequence_classification")])
def test_configs_have_the_attributes_of_transformers(tmp_path, name):
    transformers = pytest.importorskip("transformers")
    ours = opened(tmp_path, name)[1].config
    theirs = transformers.AutoConfig.from_pretrained(tmp_path)
    expected = {field: getattr(theirs, field) for field in SHARED if hasattr(theirs, field)}
    assert {field: getattr(ours, field) for field in expected} == expected


def test_special_tokens_that_are_set_hold(tmp_path):
    """A decoder reads a text's last token that is no padding, whichever token the config says that is by then."""
    recording, model = opened(tmp_path, "llama.sequence_classification")
    row = recording.whole()["input_ids"][:1]
    pad = int(row[0, -1]) + 1
    padded = np.concatenate([row, [[pad, pad]]], axis=1)
    model.config.pad_token_id = None
    assert not np.allclose(model(padded).logits, model(row).logits)
    model.config.pad_token_id = pad
    assert np.array_equal(model(padded).logits, model(row).logits)
    assert (model.config.pad_token_id, model.config["pad_token_id"]) == (pad, pad)


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_copies_keep_what_is_set(tmp_path, again):
    model = opened(tmp_path, "llama.causal_lm")[1]
    assert again(model).config.to_dict() == model.config.to_dict()
    model.config.output_hidden_states = True
    model.generation_config.max_new_tokens, model.generation_config.eos_token_id = 3, None
    same = again(model)
    assert same([[7, 8]]).hidden_states is not None
    assert same.generate([[7, 8]]).shape == (1, 5)
    assert np.array_equal(same.generate([[7, 8]]), model.generate([[7, 8]]))
    same.config.output_hidden_states, same.generation_config.max_new_tokens = False, 1
    assert model.config.output_hidden_states
    assert (model.generation_config.max_new_tokens, again(model).generation_config.max_new_tokens) == (3, 3)


def test_copies_keep_what_is_changed_in_place(tmp_path):
    recording = load("llama.causal_lm")
    write_checkpoint(tmp_path, recording)
    (tmp_path / "config.json").write_text(json.dumps(recording.config | {"eos_token_id": [3]}))
    model = tfcore.AutoModelForCausalLM.from_pretrained(tmp_path)
    model.config.eos_token_id.append(5)
    assert copy.deepcopy(model).config.eos_token_id == [3, 5]


@pytest.mark.parametrize("name", ["bert.base", "t5.base"])
def test_configs_say_what_is_returned(tmp_path, name):
    recording, model = opened(tmp_path, name)
    plain = model(**recording.whole())
    model.config.output_hidden_states = True
    asked = model(**recording.whole())
    assert list(asked) == list(model(**recording.whole(), output_hidden_states=True)) != list(plain)
    assert list(model(**recording.whole(), output_hidden_states=False)) == list(plain)
    when_opened = tfcore.AutoModel.from_pretrained(tmp_path, output_hidden_states=True)
    assert list(when_opened(**recording.whole())) == list(asked)
    model.config.output_hidden_states = "yes"
    with pytest.raises(ValueError, match="field 'output_hidden_states' is \"yes\", expected true or false"):
        model(**recording.whole())


def test_settings_instead_of_the_configs(tmp_path):
    opened(tmp_path, "llama.causal_lm")
    given = {"pad_token_id": 5, "eos_token_id": 7, "id2label": {0: "good"}, "output_attentions": None}
    model = tfcore.AutoModelForCausalLM.from_pretrained(tmp_path, **given)
    assert (model.config.pad_token_id, model.config.eos_token_id, model.config.id2label) == (5, 7, {0: "good"})
    assert (model.generation_config.pad_token_id, model.generation_config.eos_token_id) == (5, 7)
    assert model([[1, 2]]).attentions is None
    with pytest.raises(TypeError, match=r"unknown argument 'num_layers', expected a setting of the config \(b"):
        tfcore.AutoModelForCausalLM.from_pretrained(tmp_path, num_layers=3)


def test_what_a_config_usually_says(tmp_path):
    config = AutoModel.from_pretrained(write_bert(tmp_path)).config
    assert (config.output_hidden_states, config.output_attentions, config.return_dict) == (False, False, True)
    assert config.problem_type is None
    assert config.name_or_path == config._name_or_path == str(tmp_path)


# ---- answers


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("name", QUESTIONS)
def test_no_answer_begins_or_ends_at_padding(tmp_path, name, side):
    recording, model = opened(tmp_path, name)
    inputs, mask = recording.padded(side)
    output = model(**inputs)
    for logits in (output.start_logits, output.end_logits):
        assert (logits[mask == 0] == LOWEST).all()
        assert (logits[mask == 1] > LOWEST).all()


@pytest.mark.filterwarnings("ignore")
def test_answers_beside_transformers(tmp_path):
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    recording, model = opened(tmp_path, "distilbert.question_answering")
    inputs, mask = recording.padded()
    theirs = transformers.AutoModelForQuestionAnswering.from_pretrained(tmp_path).eval()
    with torch.no_grad():
        want = theirs(**{key: torch.tensor(value.astype(np.int64)) for key, value in inputs.items()}).start_logits
    want = np.where(mask, want.numpy(), LOWEST)
    assert np.allclose(model(**inputs).start_logits, want, atol=1e-4)


# ---- arguments


def test_inputs_without_their_stars(model):
    inputs = tfcore.AutoTokenizer.from_pretrained(minilm())("Hello!", return_tensors="np")
    with pytest.raises(TypeError, match=r"^input_ids is a BatchEncoding: pass \*\*inputs$"):
        model(inputs)


@pytest.mark.parametrize("name", ["bert.base", "t5.base"])
def test_what_is_none_and_what_a_tokenizer_adds_are_passed_over(tmp_path, name):
    recording, model = opened(tmp_path, name)
    inputs = recording.whole()
    beside = {"inputs_embeds": None, "labels": None, "offset_mapping": [], "special_tokens_mask": [], "length": [3]}
    assert np.array_equal(model(**inputs, **beside).last_hidden_state, model(**inputs).last_hidden_state)
    with pytest.raises(TypeError, match=r"unknown argument 'labels', expected one of input_ids, .* use_cache$"):
        model(**inputs, labels=[1])


def test_an_encoder_decoder_takes_use_cache(tmp_path):
    recording, model = opened(tmp_path, "t5.base")
    got, want = model(**recording.whole(), use_cache=False), model(**recording.whole())
    assert np.array_equal(got.last_hidden_state, want.last_hidden_state)


# ---- devices, dtypes, modes


def test_the_device_by_name_and_by_its_type(model):
    assert model.device == "cpu"
    assert f"{model.device} {model.device!r}" == "cpu 'cpu'"
    assert (model.device.type, model.device.index) == ("cpu", None)
    assert model.to(model.device) is model


def test_the_device_is_pytorchs(model):
    torch = pytest.importorskip("torch")
    theirs = torch.zeros(1, device=model.device).device
    assert (theirs.type, theirs.index) == (model.device.type, model.device.index)
    assert model.device == theirs
    assert (model.device != theirs) is False
    assert model.device != torch.device("meta")
    assert model.to(theirs) is model


def test_float32_is_the_only_dtype(model):
    assert model.dtype == np.float32
    assert model.float() is model
    for wanted in (np.float32, np.dtype("float32")):
        assert model.to(wanted) is model.to(dtype=wanted) is model.to("cpu", wanted) is model
    for refused in (np.float16, np.dtype("float16")):
        with pytest.raises(ValueError, match="dtype is float16, expected float32: models compute in float32"):
            model.to(refused)
    with pytest.raises(ValueError, match="dtype is bfloat16, expected float32"):
        model.to("cpu", dtype="bfloat16")
    with pytest.raises(ValueError, match="device is 'cuda', expected 'cpu'"):
        model.to("cuda", np.float32)


def test_dtypes_of_pytorch(model):
    torch = pytest.importorskip("torch")
    assert model.to(torch.float32) is model.to(dtype=torch.float32) is model.to(torch.device("cpu")) is model
    with pytest.raises(ValueError, match="dtype is float16, expected float32: models compute in float32"):
        model.to(torch.float16)
    with pytest.raises(ValueError, match="dtype is bfloat16, expected float32"):
        model.to("cpu", torch.bfloat16)


def test_a_model_is_never_in_training(model):
    assert model.training is False
    assert model.train(False) is model.eval() is model
    with pytest.raises(ValueError, match=r"mode is True, expected False: .* there are no gradients"):
        model.train()


def test_a_map_of_devices(tmp_path):
    folder = write_bert(tmp_path)
    assert AutoModel.from_pretrained(folder, device_map={"": "cpu"}).device == "cpu"
    with pytest.raises(ValueError, match="device is 'cuda:0', expected 'cpu'"):
        AutoModel.from_pretrained(folder, device_map={"encoder": "cpu", "pooler": "cuda:0"})
