"""Conversations to prompts: a checkpoint's chat template, run as Transformers runs it, in Jinja's sandbox.

A template is a program that comes with the weights. It sees plain data only, can reach no attribute of Python's own,
and cannot change what it is given.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any, NoReturn

from jinja2 import Template, TemplateError, TemplateSyntaxError, nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

Message = Mapping[str, Any]
_MARK = "<<the text goes on here>> "  # no template changes it, no conversation has it


def render(
    template: str, messages: Sequence[Message], variables: Mapping[str, Any], *, continue_final_message: bool = False
) -> str:
    """The text of a conversation.

    >>> render("{% for m in messages %}{{ m.role }}: {{ m.content }}{% endfor %}", [{"role": "I", "content": "hi"}], {})
    'I: hi'

    Parameters
    ----------
    template : str
        A Jinja template.
    messages : sequence of mappings
        Usually of `role` and `content`.
    variables : mapping
        What else the template sees.
    continue_final_message : bool
        End with the text of the last message, left open for a model to go on.

    Raises
    ------
    TypeError
        A message is no mapping, or something is no plain data.
    ValueError
        The template is broken or refuses the conversation.
    """
    plain = [_message(message) for message in messages]
    if continue_final_message:
        plain[-1] = plain[-1] | {"content": _final_text(plain[-1]) + _MARK}
    seen = {name: _plain(name, value) for name, value in variables.items()}
    try:
        text = _compile(template).render(seen | {"messages": plain})
    except TemplateSyntaxError as error:
        raise ValueError(f"chat_template, line {error.lineno}: {error.message}") from None
    except TemplateError as error:
        raise ValueError(f"the chat template refuses this conversation: {error.message}") from None
    except Exception as error:  # whatever the template's own expressions raise
        raise ValueError(f"the chat template fails: {type(error).__name__}: {error}") from None
    return _before_mark(text) if continue_final_message else text


@lru_cache(maxsize=16)
def _compile(template: str) -> Template:
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols]
    )
    environment.filters["tojson"] = _to_json
    environment.globals.update(raise_exception=_refuse, strftime_now=_now)
    return environment.from_string(template)


class _Generation(Extension):
    """`{% generation %}…{% endgeneration %}` marks an assistant's words for training: they stay as they are."""

    tags = {"generation"}  # noqa: RUF012

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _to_json(value: Any, ensure_ascii: bool = False, indent: int | None = None, **options: Any) -> str:
    """JSON without the escapes for HTML that Jinja's own filter adds."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, **options)


def _refuse(message: str) -> NoReturn:
    raise TemplateError(message)


def _now(pattern: str) -> str:
    return datetime.now().strftime(pattern)


def _message(message: Any) -> dict[str, Any]:
    """A message without the fields that are None."""
    if not isinstance(message, Mapping):
        raise TypeError(f"conversation holds {type(message).__name__}, expected messages: dicts of role and content")
    return {name: _plain(name, value) for name, value in message.items() if value is not None}


def _plain(name: str, value: Any) -> Any:
    """A copy in plain types: an object's methods would be the template's to call."""
    if value is None or isinstance(value, bool):
        return value
    for kind in (str, int, float):
        if isinstance(value, kind):
            return kind(value)
    if isinstance(value, Mapping):
        return {_plain(name, key): _plain(name, item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(name, item) for item in value]
    raise TypeError(f"{name} holds {type(value).__name__}, expected text, numbers, lists and dicts of them")


def _final_text(message: Message) -> str:
    text = message.get("content")
    if not isinstance(text, str) or not text:
        raise ValueError("continue_final_message: the last message has no content to continue")
    return text


def _before_mark(text: str) -> str:
    before, mark, after = text.rpartition(_MARK.strip())
    if not mark:
        raise ValueError("continue_final_message: the chat template leaves the last message out")
    before = before.replace(_MARK, "")  # of a template that writes the message more than once
    return before if after.startswith(" ") else before.rstrip()  # a template that trims has taken the mark's space
