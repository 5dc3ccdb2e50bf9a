"""Libraries that extras install, imported when first needed, with a word on how to get them."""

from typing import Any


def import_tokenizers() -> Any:
    """The `tokenizers` library."""
    try:
        import tokenizers
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            'the tokenizers library is missing: pip install "tfcore[models]"', name=error.name
        ) from None
    return tokenizers
