"""How the rows of a tokenizer's call are cut and padded, by Transformers' rules."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

from ..scalars import choose, integer

_MOST_COLUMNS = 1 << 24  # that a text is padded to
_LARGE = int(1e20)  # from here on Transformers takes a length for none
_PADDINGS = {False: None, "do_not_pad": None, True: "longest", "longest": "longest", "max_length": "max_length"}
_TRUNCATIONS: dict[Any, str | None] = {
    None: None,
    False: None,
    "do_not_truncate": None,
    True: "longest_first",
    **{name: name for name in ("longest_first", "only_first", "only_second")},
}
SIDES = {"right": "right", "left": "left"}


class Layout(NamedTuple):
    """The strategies of one call, and what they aim at."""

    truncation: str | None
    padding: str | None
    length: int | None
    multiple: int | None  # what a padded length is a multiple of
    side: str  # the padded one
    stride: int  # tokens that the parts of a cut text share
    overflow: bool  # whether what is cut off is asked for
    cut_side: str
    pad_id: int | None
    pad_token: str | None

    def check_room(self, own: int) -> None:
        """The backend leaves a text whole when the length has no room for its `own` special tokens: refuse that."""
        if self.truncation and self.length is not None and self.length < own:
            raise ValueError(
                f"max_length is {self.length}, expected at least {own}: the special tokens alone are that many"
            )

    def configure(self, backend: Any) -> None:
        """Has a tokenizer of the `tokenizers` library cut and pad so."""
        if self.truncation:
            backend.enable_truncation(
                self.length, stride=self.stride, strategy=self.truncation, direction=self.cut_side
            )
        else:
            backend.no_truncation()
        if self.padding:
            backend.enable_padding(
                length=self.length if self.padding == "max_length" else None,
                direction=self.side,
                pad_id=self.pad_id,
                pad_token=self.pad_token,
                pad_to_multiple_of=self.multiple,
            )
        else:
            backend.no_padding()

    def pad(self, rows: Sequence[list[Any]], fill: Any) -> list[list[Any]]:
        """Rows filled up on their side."""
        if self.padding is None:
            return list(rows)
        length = self.length if self.padding == "max_length" and self.length else max(map(len, rows), default=0)
        length = -(-length // self.multiple) * self.multiple if self.multiple else length
        fills = [[fill] * (length - len(row)) for row in rows]
        left = self.side == "left"
        return [filled + row if left else row + filled for row, filled in zip(rows, fills, strict=True)]


def lay_out(
    padding: Any,
    truncation: Any,
    max_length: int | None,
    multiple: int | None,
    side: str,
    stride: int,
    *,
    overflow: bool,
    model_max_length: int,
    truncation_side: str,
    pad_id: int | None,
    pad_token: str | None,
) -> Layout:
    """The layout that a call's arguments ask for.

    Raises
    ------
    TypeError
        An argument is of another kind.
    ValueError
        An argument is out of range or unknown, two of them do not fit, or there is nothing to pad with.
    """
    max_length = None if max_length is None else integer("max_length", max_length)
    multiple = None if multiple is None else integer("pad_to_multiple_of", multiple)
    stride = integer("stride", stride, 0)
    if truncation is None and max_length is not None and padding is False:
        truncation = True  # max_length given alone
    cut, pad = choose("truncation", truncation, _TRUNCATIONS), choose("padding", padding, _PADDINGS)
    if pad and pad_id is None:
        raise ValueError("padding needs a padding token: set tokenizer.pad_token = tokenizer.eos_token, for example")
    if max_length is None and (cut or pad == "max_length"):
        max_length = model_max_length
    if max_length and max_length > _LARGE:
        warnings.warn("this tokenizer states no model_max_length: pass max_length to truncate or pad", stacklevel=4)
        cut, pad, max_length = None, None if pad == "max_length" else pad, None
    if pad == "max_length" and max_length and max_length > _MOST_COLUMNS:
        raise ValueError(f"max_length is {max_length}, expected at most {_MOST_COLUMNS} to pad to")
    if cut and pad and multiple and max_length and max_length % multiple:
        raise ValueError(f"max_length is {max_length}, expected a multiple of pad_to_multiple_of, {multiple}")
    side, cut_side = choose("padding_side", side, SIDES), choose("truncation_side", truncation_side, SIDES)
    return Layout(
        cut, pad, max_length, multiple, side, stride if overflow else 0, overflow, cut_side, pad_id, pad_token
    )
