"""Conversations as prompts: what Transformers' rendering recorded, and templates that are broken or hostile."""

import json
import sys
import zipfile
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from tfcore import AutoTokenizer
from tokenizer_cases import CONVERSATIONS

ARCHIVE = Path(__file__).parent / "golden" / "tokenizers.zip"
SAY = [{"role": "user", "content": "the fox"}]


@cache
def recorded():
    with zipfile.ZipFile(ARCHIVE) as archive:
        return json.loads(archive.read("recorded.json"))


@pytest.fixture
def folder(tmp_path):
    with zipfile.ZipFile(ARCHIVE) as archive:
        archive.extractall(tmp_path, [name for name in archive.namelist() if name.startswith("qwen2/")])
    return tmp_path / "qwen2"


@pytest.fixture
def tokenizer(folder):
    return AutoTokenizer.from_pretrained(folder)


def templated(name, own):
    return recorded()["smollm2"] if name == "smollm2" else own


def state(folder, **fields):
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))
    return AutoTokenizer.from_pretrained(folder)


# ---- Transformers' texts and ids


@pytest.mark.parametrize("case", range(len(CONVERSATIONS)))
def test_as_recorded(tokenizer, case):
    name, own, messages, options = CONVERSATIONS[case]
    want = recorded()["chats"][case]
    tokenizer.chat_template = templated(name, own)
    assert tokenizer.apply_chat_template(messages, tokenize=False, **options) == want["text"]
    assert tokenizer.apply_chat_template(messages, **options) == want["ids"]


@pytest.mark.filterwarnings("ignore")
def test_as_transformers_installed(folder, tokenizer):
    transformers = pytest.importorskip("transformers", minversion="5")
    theirs = transformers.AutoTokenizer.from_pretrained(folder)
    for name, own, messages, options in CONVERSATIONS:
        template = templated(name, own)
        assert tokenizer.apply_chat_template(
            messages, chat_template=template, tokenize=False, **options
        ) == theirs.apply_chat_template(messages, chat_template=template, tokenize=False, **options)


def test_smollm2_opens_the_answer(tokenizer):
    tokenizer.chat_template = recorded()["smollm2"]
    text = tokenizer.apply_chat_template(SAY, tokenize=False, add_generation_prompt=True)
    assert text.endswith("<|im_start|>user\nthe fox<|im_end|>\n<|im_start|>assistant\n")
    ids = tokenizer.apply_chat_template(SAY, add_generation_prompt=True)
    assert ids == tokenizer(text, add_special_tokens=False)["input_ids"]
    assert ids.count(tokenizer.convert_tokens_to_ids("<|im_start|>")) == 3


# ---- ids, batches, tensors


def test_what_comes_back(tokenizer):
    tokenizer.chat_template = "{% for m in messages %}{{ m.content }}{% endfor %}"
    one = tokenizer.apply_chat_template(SAY)
    assert tokenizer.apply_chat_template(SAY, return_tensors="np").tolist() == [one]
    full = tokenizer.apply_chat_template(SAY, return_tensors="np", return_dict=True)
    assert isinstance(full.attention_mask, np.ndarray)
    batch = tokenizer.apply_chat_template([SAY, SAY * 2], padding=True, return_tensors="np", return_dict=True)
    assert batch.input_ids.shape == (2, 2 * len(one))
    assert batch.attention_mask.sum(1).tolist() == [len(one), 2 * len(one)]
    assert tokenizer.apply_chat_template([SAY, SAY], tokenize=False) == ["the fox"] * 2
    assert tokenizer.apply_chat_template(SAY, max_length=1, truncation=True) == one[:1]


def test_no_special_tokens_besides_the_templates(folder):
    tokenizer = AutoTokenizer.from_pretrained(folder, bos_token="<|im_start|>", add_bos_token=True)
    tokenizer.chat_template = "{{ bos_token }}x"
    assert tokenizer.apply_chat_template(SAY) == tokenizer("x")["input_ids"]


def test_the_time(tokenizer):
    text = tokenizer.apply_chat_template(SAY, False, chat_template="{{ strftime_now('%Y') }}")
    assert int(text) >= 2024


# ---- where templates come from


def test_from_the_config(folder):
    assert state(folder, chat_template="one").apply_chat_template(SAY, False) == "one"
    named = [
        {"name": "default", "template": "D"},
        {"name": "tool_use", "template": "T"},
        {"name": "rag", "template": "R"},
    ]
    tokenizer = state(folder, chat_template=named)
    assert tokenizer.apply_chat_template(SAY, False) == "D"
    assert tokenizer.apply_chat_template(SAY, False, tools=[{}]) == "T"
    assert tokenizer.apply_chat_template(SAY, False, chat_template="rag") == "R"
    assert tokenizer.apply_chat_template(SAY, False, chat_template="other") == "other"
    with pytest.raises(ValueError, match="expected one of rag, tool_use or a template"):
        state(folder, chat_template=named[1:]).apply_chat_template(SAY, False)


def test_files_of_their_own_win(folder):
    (folder / "chat_template.jinja").write_text("file")
    tokenizer = state(folder, chat_template="config")
    assert tokenizer.chat_template == "file"
    (folder / "additional_chat_templates").mkdir()
    (folder / "additional_chat_templates" / "tool_use.jinja").write_text("tools")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert tokenizer.apply_chat_template(SAY, False, tools=[{}]) == "tools"
    (folder / "chat_template.jinja").write_bytes(b"\xff")
    with pytest.raises(ValueError, match=r"chat_template\.jinja: not text in UTF-8"):
        AutoTokenizer.from_pretrained(folder)


def test_without_a_template_the_way_on_is_told(tokenizer):
    with pytest.raises(ValueError, match=r"set tokenizer\.chat_template, or use a checkpoint that was taught to chat"):
        tokenizer.apply_chat_template(SAY)


def test_jinja_is_asked_for_by_name(tokenizer, monkeypatch):
    monkeypatch.delitem(sys.modules, "tfcore.models.chat_template", raising=False)
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(ModuleNotFoundError, match=r'jinja2 .*pip install "tfcore\[models\]"'):
        tokenizer.apply_chat_template(SAY, chat_template="x")


# ---- wrong arguments, broken and hostile templates


class Rich:
    def content(self):
        raise AssertionError("a template has called it")


@pytest.mark.parametrize(
    ("conversation", "options", "error", "message"),
    [
        ("hello", {}, TypeError, "conversation is str, expected a list of messages"),
        ([], {}, ValueError, "conversation is empty"),
        ([SAY, []], {}, ValueError, "holds an empty one"),
        (["hello"], {}, TypeError, "conversation holds str, expected messages"),
        ([{"content": Rich()}], {}, TypeError, "content holds Rich, expected text, numbers"),
        (SAY, {"tools": [Rich()]}, TypeError, "tools holds Rich"),
        (SAY, {"continue_final_message": True, "add_generation_prompt": True}, ValueError, "choose one"),
        (SAY, {"tokenizer_kwargs": {"max_length": 3}}, ValueError, "tokenizer_kwargs is given.*not implemented"),
        (SAY, {"return_assistant_tokens_mask": True}, ValueError, "return_assistant_tokens_mask is given"),
        (SAY, {"continue_final_message": True}, ValueError, "the chat template leaves the last message out"),
        ([{"role": "a"}], {"continue_final_message": True}, ValueError, "no content to continue"),
    ],
)
def test_wrong_arguments_are_named(tokenizer, conversation, options, error, message):
    with pytest.raises(error, match=message):
        tokenizer.apply_chat_template(conversation, chat_template="x", **options)


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("line\n{% for %}", "chat_template, line 2: "),
        ("{% if x %}", "chat_template, line 1: "),
        ("{{ x | nosuchfilter }}", "nosuchfilter"),
        ("{% include 'a' %}", "fails|refuses"),
        ("{{ raise_exception('roles must alternate') }}", "refuses this conversation: roles must alternate"),
        ("{{ messages[0].a.b }}", "refuses this conversation: .*no attribute 'a'"),
        ("{{ 1 / 0 }}", "fails: ZeroDivisionError"),
        ("{{ range(10 ** 9) | list }}", "fails: OverflowError"),
        ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "fails: RecursionError"),
        ("{{ ''.__class__.__mro__[1].__subclasses__() }}", "refuses"),
        ("{{ messages.__class__.__init__.__globals__ }}", "refuses"),
        ("{{ raise_exception.__globals__['json'] }}", "refuses"),
        ("{{ strftime_now.__globals__.json }}", "refuses"),
        ("{{ '{0.__class__.__mro__}'.format(1) }}", "refuses"),
        ("{{ (messages | map(attribute='__class__') | first).mro() }}", "refuses"),
        ("{{ cycler.__init__.__globals__.os.system('true') }}", "refuses"),
        ("{{ messages.append(1) }}", "refuses"),
        ("{{ messages[0].update({'a': 1}) }}", "refuses"),
        ("{{ messages[0].pop('role') }}", "refuses"),
    ],
)
def test_a_template_that_is_broken_or_would_escape(tokenizer, template, message):
    with pytest.raises(ValueError, match=message):
        tokenizer.apply_chat_template(SAY, chat_template=template)
    assert SAY == [{"role": "user", "content": "the fox"}]


def test_messages_stay_as_they_are(tokenizer):
    messages = [{"role": "assistant", "content": "the", "name": None}]
    template = "{% for m in messages %}{{ m.content }}{% endfor %}"
    assert tokenizer.apply_chat_template(messages, False, chat_template=template, continue_final_message=True) == "the"
    assert messages == [{"role": "assistant", "content": "the", "name": None}]
