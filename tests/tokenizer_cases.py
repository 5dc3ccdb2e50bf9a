"""What tokenizers are asked in tests, of ours and of Transformers' alike."""

from __future__ import annotations

from typing import Any

TEXTS = [
    "Hello world, how are you?",
    " The  quick\tfox ",
    "",
    "naïve café — 東京 🙂 isn't\n\nnew line",
    "quick <mask> fox </s> x <unk>y <pad>",
    "<s>hi [MASK] there</s>  <|endoftext|>b",
    "ﬁne Ⅷ \uff11 12345",
    "   ",
    ">>fra<< the dog <|im_start|>user",
    "<extra_id_0> the <extra_id_9>",
]
_LEFT = {"padding": True, "max_length": 6, "truncation": True, "padding_side": "left"}
CALLS: list[tuple[tuple[Any, ...], dict[str, Any]]] = [
    ((TEXTS,), {}),
    ((TEXTS,), {"add_special_tokens": False}),
    ((TEXTS, TEXTS[::-1]), {}),
    ((TEXTS[0], TEXTS[1]), {}),
    ((TEXTS,), {"padding": True}),
    ((TEXTS,), {"padding": "max_length", "max_length": 9, "truncation": True}),
    ((TEXTS,), _LEFT),
    ((TEXTS[:2],), {"text_target": TEXTS[2:4], "max_length": 12, "truncation": True}),
    ((), {"text_target": TEXTS[0]}),
]
_NAMES = [f"{name}_token" for name in ("bos", "eos", "unk", "sep", "pad", "cls", "mask")]
_NAMES += [f"{name}_id" for name in _NAMES]

_SAY = [{"role": "user", "content": "Hello ﬁne world!"}]
_TALK = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "2 < 3 & 'so'?", "name": None},
    {"role": "assistant", "content": "  Yes.  "},
    {"role": "user", "content": "Why?"},
]
_TOOLS = [{"type": "function", "function": {"name": "add", "parameters": {"é": ["<", 1, 2.5, None, True]}}}]
_INSTRUCT = """
{%- for message in messages %}
    {%- if message.role == 'system' %}{% continue %}{% endif %}
    {%- if loop.index0 > 9 %}{{ raise_exception('too long') }}{% endif %}
    {% if message['role'] == 'user' %}
{{ bos_token }}[INST] {{ message.content | trim }} [/INST]
    {% else %}
        {%- generation %}{{ message['content'] }}{{ eos_token }}{% endgeneration %}
    {% endif %}
{%- endfor %}
{%- if tools %}{{ tools | tojson(indent=2) }}{{ tools[0] | tojson }}{% endif %}
{%- if documents is defined and documents %}{% for d in documents %}{{ d.title }};{% endfor %}{% endif %}
{%- if thinking is defined and thinking %}<think>{% endif %}
{%- set ns = namespace(n=0) %}{% for m in messages %}{% set ns.n = ns.n + 1 %}{% endfor %}{{ ns.n }}
{%- if add_generation_prompt %} go{% endif %}
"""
CONVERSATIONS: list[tuple[str, str, list[dict[str, Any]], dict[str, Any]]] = [
    ("smollm2", "", _SAY, {}),
    ("smollm2", "", _SAY, {"add_generation_prompt": True}),
    ("smollm2", "", _TALK, {"add_generation_prompt": True}),
    ("smollm2", "", _TALK[:3], {"continue_final_message": True}),
    ("instruct", _INSTRUCT, _TALK, {"tools": _TOOLS, "documents": [{"title": "A"}], "thinking": True}),
    ("instruct", _INSTRUCT, _SAY, {"bos_token": "<B>", "add_generation_prompt": True}),
    (
        "trims",
        "{% for m in messages %}{{ m.content | trim }}|{% endfor %}",
        _TALK[:3],
        {"continue_final_message": True},
    ),
]


def attributes(tokenizer: Any) -> dict[str, Any]:
    names = ["padding_side", "truncation_side", "model_max_length", "model_input_names", "vocab_size", *_NAMES]
    return {name: getattr(tokenizer, name) for name in names} | {"length": len(tokenizer)}


def outcome(tokenizer: Any, *arguments: Any, **options: Any) -> dict[str, Any] | None:
    """What a call returns, as plain lists; None where it refuses, as it does to pad without a padding token."""
    try:
        return dict(tokenizer(*arguments, **options).items())
    except ValueError:
        return None
