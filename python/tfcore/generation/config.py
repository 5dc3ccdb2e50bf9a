"""`GenerationConfig`: settings of `generate` in one object, as Transformers has them."""

from __future__ import annotations

from typing import Any

from .options import GenerationOptions, check_known, is_known


class GenerationConfig:
    """Settings of `generate` that can be read, set and passed on as one. What is not set is None.

    A model's own, `model.generation_config`, says what its checkpoint says, and what is set there holds from then on.

    >>> config = GenerationConfig(max_new_tokens=20)
    >>> config.top_k = 5
    >>> config.max_new_tokens, config.top_k, config.top_p, config.to_diff_dict()
    (20, 5, None, {'max_new_tokens': 20, 'top_k': 5})

    Parameters
    ----------
    **settings
        Those of `GenerationOptions`.

    Raises
    ------
    TypeError
        A name is no setting. What a setting may be is checked when it is used.
    """

    def __init__(self, **settings: Any) -> None:
        self.update(**settings)

    def __setattr__(self, name: str, value: Any) -> None:
        check_known([name])
        super().__setattr__(name, value)

    def __getattr__(self, name: str) -> Any:
        if is_known(name):
            return None
        raise AttributeError(f"generate has no setting {name}")

    def to_diff_dict(self) -> dict[str, Any]:
        """What is set."""
        return dict(vars(self))

    def to_dict(self) -> dict[str, Any]:
        """Every setting, None where it is not set."""
        return {name: getattr(self, name) for name in GenerationOptions.__dataclass_fields__}

    def update(self, **settings: Any) -> None:
        """Sets several at once."""
        for name, value in settings.items():
            setattr(self, name, value)

    def __repr__(self) -> str:
        return f"GenerationConfig({', '.join(f'{name}={value!r}' for name, value in vars(self).items())})"
