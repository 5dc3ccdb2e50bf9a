"""Fields of `config.json`: a wrong one is an error that names file, field, what came and what was wanted."""

import copy
import json
import pickle

import pytest
from tfcore.models.architecture import Architecture, Embeddings, StackSpec
from tfcore.models.config import Config, read_json
from tfcore.models.families import find_family
from tfcore.models.model_config import ModelConfig


def test_fields_are_attributes_and_items():
    config = Config({"hidden_size": 384, "architectures": ["BertModel"]}, "config.json")
    assert config.hidden_size == config["hidden_size"] == 384
    assert config.to_dict() == dict(config) == {"hidden_size": 384, "architectures": ["BertModel"]}
    assert not hasattr(config, "vocab_size")


@pytest.mark.parametrize("value", [0, -1, 1.0, "384", True, [384], {}])
def test_positive_int(value):
    with pytest.raises(ValueError, match=r"^config\.json: field 'n' is .*, expected a positive integer$") as caught:
        Config({"n": value}, "config.json").positive_int("n")
    assert json.dumps(value) in str(caught.value)


@pytest.mark.parametrize("value", [0, -1e-12, "1e-12", True, float("nan"), float("inf")])
def test_positive_number(value):
    with pytest.raises(ValueError, match=r"^config\.json: field 'eps' is .*, expected a positive number$"):
        Config({"eps": value}, "config.json").positive_number("eps")


def test_numbers_that_nothing_holds():
    config = Config({"n": 10**400, "digits": 10**5000, "eps": 1e39, "whole": 10**400}, "config.json")
    for name in ("n", "digits"):
        with pytest.raises(ValueError, match=rf"field '{name}' is .*, expected a positive integer up to 10\*\*36"):
            config.positive_int(name)
    for name in ("eps", "whole"):
        with pytest.raises(ValueError, match=f"field '{name}' is .*, expected a positive number within float32"):
            config.positive_number(name)


def test_a_length_that_stands_for_none():
    assert Config({"n": 10**30}, "config.json").positive_int("n") == Config({}, "config.json").positive_int("n", 10**30)


def test_text_flag_and_choice():
    config = Config({"act": "gelu", "decoder": False, "n": 3}, "config.json")
    assert config.text("act") == "gelu"
    assert config.flag("decoder") is False
    assert config.choice("act", {"gelu": "exact"}) == "exact"
    with pytest.raises(ValueError, match="field 'n' is 3, expected a string"):
        config.text("n")
    with pytest.raises(ValueError, match="field 'n' is 3, expected true or false"):
        config.flag("n")
    with pytest.raises(ValueError, match="field 'act' is \"gelu\", expected one of relu, silu"):
        config.choice("act", {"relu": "", "silu": ""})


def test_missing_and_null_fields():
    config = Config({"null": None}, "config.json")
    for name in ("null", "absent"):
        assert config.positive_int(name, default=2) == 2
        with pytest.raises(ValueError, match=f"config.json: field '{name}' is missing"):
            config.positive_int(name)


def test_expect():
    config = Config({"is_decoder": True}, "config.json")
    config.expect("add_cross_attention", False)
    with pytest.raises(ValueError, match="field 'is_decoder' is true, expected false"):
        config.expect("is_decoder", False)


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b'"text"', b"\xff\xfe", b"[" * 100_000])
def test_files_that_hold_no_object(tmp_path, content):
    path = tmp_path / "config.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"config\.json: (not valid JSON|holds .*, expected an object)"):
        read_json(path)


def model_config(fields, model_type="bert"):
    """A config as a model of that family has it."""
    config = Config({"model_type": model_type, **fields}, "config.json")
    return ModelConfig(config, find_family(config), Architecture(encoder=StackSpec(8, Embeddings(4, 8), ())))


def test_labels_are_numbered():
    config = model_config({"id2label": {"0": "NEGATIVE", "1": "POSITIVE"}})
    assert config.id2label[1] == "POSITIVE"
    assert config.num_labels == 2
    for wrong in (-1, {"a": "NEGATIVE"}):
        with pytest.raises(ValueError, match=r"config\.json: field 'id2label' is .*, expected an object of labels"):
            _ = model_config({"id2label": wrong}).id2label


def test_labels_that_no_field_names():
    for model_type, names in (("bert", ["LABEL_0", "LABEL_1"]), ("bart", ["LABEL_0", "LABEL_1", "LABEL_2"])):
        for none in (None, {}):
            config = model_config({"id2label": none}, model_type)
            assert (config.id2label, config.num_labels) == (dict(enumerate(names)), len(names))
            assert config.label2id == {name: i for i, name in enumerate(names)}
    assert model_config({"num_labels": 4}).id2label[3] == "LABEL_3"
    assert model_config({"num_labels": 10**9}).num_labels == 10**9
    named = {"id2label": {"0": "NO", "1": "YES"}}
    assert model_config(named).label2id == {"NO": 0, "YES": 1}
    assert model_config(named | {"label2id": {"NO": 0}}).label2id == {"NO": 0}
    with pytest.raises(ValueError, match=r"config\.json: field 'num_labels' is \"4\", expected a positive integer"):
        _ = model_config({"num_labels": "4"}).num_labels


def test_what_attributes_add_is_not_in_the_file():
    fields = {"n_embd": 32, "_name_or_path": "here"}
    config = model_config(fields, "gpt2")
    assert (config.hidden_size, config.pad_token_id, config.is_encoder_decoder) == (32, None, False)
    assert config._name_or_path == "here"
    assert config.to_dict() == dict(config) == {"model_type": "gpt2", **fields}
    with pytest.raises(ValueError, match="field 'hidden_size' is missing"):
        config.positive_int("hidden_size")
    with pytest.raises(AttributeError, match="no field 'max_position_embeddings'"):
        _ = config.max_position_embeddings
    other = Config({"model_max_length": 24}, "tokenizer_config.json")
    assert not any(hasattr(other, name) for name in ("id2label", "num_labels", "pad_token_id", "is_encoder_decoder"))


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, lambda config: pickle.loads(pickle.dumps(config))])
def test_copies(again):
    for config in (Config({"hidden_size": 384}, "config.json"), model_config({"hidden_size": 384})):
        got = again(config)
        assert (got.to_dict(), got.path, got.hidden_size) == (config.to_dict(), config.path, 384)
    got.hidden_size = 5
    assert (config.hidden_size, config.changes(), got.changes()) == (384, {}, {"hidden_size": 5})


def test_what_is_changed_in_place_is_a_change():
    config = model_config({"eos_token_id": [2], "id2label": {"0": "NO"}, "pad_token_id": 0})
    config.eos_token_id.append(3)
    config["id2label"]["0"] = "YES"
    assert config.changes() == {"eos_token_id": [2, 3], "id2label": {"0": "YES"}}


def test_tokens():
    config = Config(
        {"eos_token_id": [2, 3], "pad_token_id": 0, "bos_token_id": None, "sep_token_id": 1.5}, "config.json"
    )
    assert [config.token_ids(f"{name}_token_id") for name in ("eos", "pad", "bos", "unk")] == [[2, 3], [0], [], []]
    with pytest.raises(ValueError, match=r"field 'sep_token_id' is 1\.5, expected a token's id or several"):
        config.token_ids("sep_token_id")
