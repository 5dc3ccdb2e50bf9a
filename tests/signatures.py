"""The parameters of functions, compiled ones included: (name, kind, default) triples to compare."""

from __future__ import annotations

import ast
import inspect

Parameter = tuple[str, str, str | None]


def parameters(function) -> list[Parameter]:
    """What `inspect.signature` knows, and for a compiled function what its docstring's first line says."""
    try:
        known = inspect.signature(function).parameters.values()
    except ValueError:
        return parameters_of_text(f"def {function.__doc__.splitlines()[0]}: ...")
    empty = inspect.Parameter.empty
    return [(p.name, p.kind.name, None if p.default is empty else repr(p.default)) for p in known]


def parameters_of_text(definition: str) -> list[Parameter]:
    return parameters_of_node(ast.parse(definition).body[0].args)


def parameters_of_node(args: ast.arguments) -> list[Parameter]:
    """The same of a parsed definition, as in a stub file."""
    by_position = [*args.posonlyargs, *args.args]
    defaults = [None] * (len(by_position) - len(args.defaults)) + args.defaults
    kinds = ["POSITIONAL_ONLY"] * len(args.posonlyargs) + ["POSITIONAL_OR_KEYWORD"] * len(args.args)
    found = [(a.arg, kind, d) for a, kind, d in zip(by_position, kinds, defaults, strict=True)]
    if args.vararg:
        found.append((args.vararg.arg, "VAR_POSITIONAL", None))
    found += [(a.arg, "KEYWORD_ONLY", d) for a, d in zip(args.kwonlyargs, args.kw_defaults, strict=True)]
    if args.kwarg:
        found.append((args.kwarg.arg, "VAR_KEYWORD", None))
    return [(name, kind, None if default is None else ast.unparse(default)) for name, kind, default in found]
