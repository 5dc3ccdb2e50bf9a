"""Which chat template a conversation takes: one of a checkpoint's, or the caller's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .config import Config

Templates = str | dict[str, str] | None


def chat_templates(config: Config) -> Templates:
    """The `chat_template` of a tokenizer's files: one, or several by name."""
    stated = config.get("chat_template")
    if isinstance(stated, list) and all(isinstance(item, dict) for item in stated):
        stated = {item.get("name"): item.get("template") for item in stated}
    texts = stated.items() if isinstance(stated, dict) else [("default", stated or "")]
    if not all(isinstance(text, str) for pair in texts for text in pair):
        raise ValueError(f"{config.path}: field 'chat_template' is neither a template nor a list of named templates")
    return stated


def choose_template(templates: Templates, wanted: str | None, *, tools: bool) -> str:
    """The template to use: `wanted`, or the one it names; else the tokenizer's only one, or the one for the purpose."""
    if wanted is not None and not isinstance(wanted, str):
        raise TypeError(f"chat_template is {type(wanted).__name__}, expected a template or the name of one")
    if isinstance(templates, dict):
        name = wanted or ("tool_use" if tools and "tool_use" in templates else "default")
        if name not in templates and wanted is None:
            raise ValueError(
                f"chat_template is not given, expected one of {', '.join(sorted(templates))} or a template"
            )
        return templates.get(name, name)
    template = wanted or templates
    if not isinstance(template, str):
        raise ValueError(
            "this tokenizer has no chat template: pass chat_template=, set tokenizer.chat_template, or use a "
            "checkpoint that was taught to chat (its name often ends in -Instruct or -it)"
        )
    return template


def as_conversations(conversation: Any) -> tuple[list[Sequence[Any]], bool]:
    """The conversations of a call as a list, and whether it was a batch."""
    if not isinstance(conversation, list | tuple):
        raise TypeError(f"conversation is {type(conversation).__name__}, expected a list of messages")
    batched = any(isinstance(item, list | tuple) for item in conversation)
    conversations = list(conversation) if batched else [conversation]
    if not all(isinstance(item, list | tuple) and item for item in conversations):
        raise ValueError("conversation is empty, or holds an empty one: expected at least one message")
    return conversations, batched
