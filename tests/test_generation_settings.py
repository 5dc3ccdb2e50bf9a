"""Settings of a call, of an object and of the checkpoint, as `generate` and `stream` of a model put them together."""

from __future__ import annotations

import json

import family_checkpoints
import numpy as np
import pytest
import tfcore

SAID = {"eos_token_id": 3, "max_new_tokens": 4, "repetition_penalty": 1.7, "num_beams": 3, "top_k": 7}


@pytest.fixture(scope="module")
def writer(tmp_path_factory):
    """A decoder whose checkpoint has settings of its own."""
    folder = tmp_path_factory.mktemp("writer")
    family_checkpoints.write_checkpoint(folder, family_checkpoints.load("llama.causal_lm"))
    (folder / "generation_config.json").write_text(json.dumps(SAID))
    return tfcore.AutoModelForCausalLM.from_pretrained(folder)


@pytest.fixture
def config_of():
    return pytest.importorskip("transformers").GenerationConfig


def test_fields_of_an_object_replace_the_checkpoints(writer, config_of):
    options = writer._options({}, config_of(max_new_tokens=9, top_k=2))
    assert options == writer._options({"max_new_tokens": 9, "top_k": 2})
    assert (options.max_new_tokens, options.top_k, options.num_beams) == (9, 2, 3)
    assert (options.repetition_penalty, options.end_tokens) == (1.7, (3,))
    given = {"max_new_tokens": 9, "eos_token_id": [62, 63]}
    found = writer.generate([[7, 8]], generation_config=config_of(**given))
    assert np.array_equal(found, writer.generate([[7, 8]], **given))
    plain = {"repetition_penalty": 1.0, "num_beams": 1}
    assert not np.array_equal(found, writer.generate([[7, 8]], **given, **plain))


def test_an_object_in_transformers_place(writer, config_of):
    for config in (config_of(max_new_tokens=2), tfcore.GenerationConfig(max_new_tokens=2)):
        assert np.array_equal(writer.generate([[7, 8]], config), writer.generate([[7, 8]], max_new_tokens=2))


def test_an_object_as_a_dict():
    config = tfcore.GenerationConfig(top_k=5)
    config.update(top_k=7, top_p=0.5)
    everything = config.to_dict()
    assert (everything["top_k"], everything["top_p"], everything["num_beams"]) == (7, 0.5, None)
    with pytest.raises(TypeError, match="generate has no setting tops"):
        config.update(tops=1)


def test_settings_of_the_call_come_before_an_objects(writer, config_of):
    for config in (config_of(max_new_tokens=9, num_beams=2), {"max_new_tokens": 9, "num_beams": 2}):
        options = writer._options({"max_new_tokens": 6}, config)
        assert (options.max_new_tokens, options.num_beams, options.top_k) == (6, 2, 7)
        assert writer._options({"max_length": 6}, config).limit(2) == 6
    assert writer._options({}, config_of(max_length=30)).limit(2) == 30
    assert writer._options({}, {"max_length": 30}).limit(2) == 30


def test_what_is_set_on_a_model_holds(tmp_path):
    family_checkpoints.write_checkpoint(tmp_path, family_checkpoints.load("llama.causal_lm"))
    (tmp_path / "generation_config.json").write_text(json.dumps(SAID))
    model = tfcore.AutoModelForCausalLM.from_pretrained(tmp_path)
    config = model.generation_config
    assert (config.top_k, config.num_beams, config.pad_token_id) == (7, 3, None)
    config.num_beams, config.pad_token_id, config.eos_token_id = 1, 5, None
    want = model.generate([[7, 8]], max_new_tokens=4, num_beams=1, pad_token_id=5, eos_token_id=None)
    assert np.array_equal(model.generate([[7, 8]]), want)
    assert np.array_equal(model.generate([[7, 8]], generation_config=config), want)
    short = tfcore.GenerationConfig(max_new_tokens=2)
    assert np.array_equal(model.generate([[7, 8]], generation_config=short), want[:, :4])
    with pytest.raises(TypeError, match="generate has no setting top_q; the settings are max_new_tokens"):
        config.top_q = 3
    with pytest.raises(AttributeError, match="generate has no setting top_q"):
        config.top_q  # noqa: B018
    config.top_k = "x"
    with pytest.raises(ValueError, match=r"generation settings: top_k is 'x'"):
        model.generate([[7, 8]])


def test_settings_of_a_model_as_one(tmp_path, config_of):
    family_checkpoints.write_checkpoint(tmp_path, family_checkpoints.load("llama.causal_lm"))
    (tmp_path / "generation_config.json").write_text(json.dumps(SAID))
    model = tfcore.AutoModelForCausalLM.from_pretrained(tmp_path)
    want = model.generate([[7, 8]])
    for kind in (tfcore.GenerationConfig, config_of, dict):
        model.generation_config = kind(max_new_tokens=1)
        assert model.generate([[7, 8]]).shape == (1, 3)
    model.generation_config = None
    assert model.generation_config.max_new_tokens == 4
    assert np.array_equal(model.generate([[7, 8]]), want)
    for wrong in ([], 5, tfcore.GenerationConfig):
        with pytest.raises(TypeError, match=r"^generation_config is (list|int|type), expected a GenerationConf"):
            model.generation_config = wrong
    assert np.array_equal(model.generate([[7, 8]]), want)


def test_none_in_a_dict_turns_off_as_in_a_call(writer, config_of):
    assert writer._options({}, {"eos_token_id": None}).end_tokens == ()
    assert writer._options({}, {"eos_token_id": None, "top_k": None}) == writer._options(
        {"eos_token_id": None, "top_k": None}
    )
    assert writer._options({}, config_of(eos_token_id=None)).end_tokens == (3,)
    assert writer._options({}, {}) == writer._options({}, config_of()) == writer._options({})


def test_what_an_object_says_that_is_no_setting(writer):
    extra = {"transformers_version": "5.0.0", "cache_implementation": None, "eos_token_id": -1, "top_k": -1}
    options = writer._options({}, extra)
    assert (options.end_tokens, options.top_k) == ((), 0)  # the words of checkpoints for none and all


def test_what_is_wrong_with_an_object_is_the_callers(writer, config_of):
    with pytest.raises(ValueError, match=r"^top_p is 1\.5, expected a number from 0 to 1"):
        writer.generate([[7, 8]], generation_config={"top_p": 1.5})
    with pytest.raises(ValueError, match=r"^typical_p is 0\.5, expected 1\.0: it is not implemented"):
        writer.generate([[7, 8]], generation_config=config_of(typical_p=0.5))
    with pytest.raises(TypeError, match=r"^generation_config is list, expected a GenerationConfig or a dict"):
        writer.generate([[7, 8]], generation_config=[5])


def test_ids_of_torch(writer):
    torch = pytest.importorskip("torch")
    want = writer.generate([[7, 8], [9, 10]], eos_token_id=[5], pad_token_id=5, max_new_tokens=8)
    ids = {"eos_token_id": torch.tensor([5]), "pad_token_id": torch.tensor(5)}
    assert np.array_equal(writer.generate([[7, 8], [9, 10]], max_new_tokens=8, **ids), want)


def test_a_tokenizer_that_is_none(writer):
    for wrong in (5, "gpt2"):
        message = f"^tokenizer is {type(wrong).__name__}, expected an object with decode"
        with pytest.raises(TypeError, match=message):
            writer.generate([[7, 8]], stop_strings="a", tokenizer=wrong)
        with pytest.raises(TypeError, match=message):
            writer.stream([[7, 8]], stop_strings="a", tokenizer=wrong, num_beams=1)


def test_numbers_of_numpy(writer):
    given = {"top_k": np.int64(4), "repetition_penalty": np.float32(1.5), "length_penalty": np.array(0.5)}
    assert writer._options(given) == writer._options({"top_k": 4, "repetition_penalty": 1.5, "length_penalty": 0.5})


def test_numpys_seed_repeats_a_draw(writer):
    options = {"do_sample": True, "num_beams": 1, "top_k": 0, "temperature": 3.0, "max_new_tokens": 12}
    np.random.seed(42)  # noqa: NPY002 (as tutorials do)
    first, second = (writer.generate([[7, 8]], **options).tolist() for _ in range(2))
    pytest.importorskip("transformers").set_seed(42)
    assert [writer.generate([[7, 8]], **options).tolist() for _ in range(2)] == [first, second]
    assert first != second


def test_a_seed_set_beforehand_repeats_a_draw(writer):
    drawn = []
    for seed in (3, 3, 4):
        tfcore.set_seed(seed)
        drawn.append(writer.generate([[7, 8]], do_sample=True, num_beams=1, max_new_tokens=12).tolist())
    assert drawn[0] == drawn[1] != drawn[2]


def test_lengths_count_a_texts_own_tokens(writer):
    """Not the padding before it, as Transformers does."""
    options = {"eos_token_id": None, "pad_token_id": 0, "max_length": 6}
    beside = writer.generate([[0, 0, 0, 7], [5, 6, 7, 8]], [[0, 0, 0, 1], [1, 1, 1, 1]], **options)
    assert beside[0, 3:].tolist() == writer.generate([[7]], **options)[0].tolist()
    assert beside.shape == (2, 9)
