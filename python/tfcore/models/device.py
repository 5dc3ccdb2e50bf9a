"""What code written for PyTorch says of devices and dtypes: taken where it asks for what tfcore is, else refused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

# Arguments of Transformers' from_pretrained that choose how a model is held, not what it computes; and one that lets a
# checkpoint's own code run, which never does here.
_HELD = (
    *("attn_implementation", "device_map", "dtype", "low_cpu_mem_usage", "torch_dtype", "trust_remote_code"),
    "use_safetensors",
)
CONFIG_SETTINGS = {
    *("bos_token_id", "eos_token_id", "pad_token_id", "id2label", "label2id"),
    *("output_attentions", "output_hidden_states"),
}


class Device(str):
    """A device's name, with what lines written for PyTorch ask of it.

    >>> CPU, CPU == "cpu", CPU.type, CPU.index
    ('cpu', True, 'cpu', None)
    """

    type = "cpu"
    index = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:  # a torch.device of that name, too
        return str(other) == str(self)

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = str.__hash__


CPU = Device("cpu")


def is_dtype(value: Any) -> bool:
    """Whether it is a dtype of PyTorch's or NumPy's, in the place of a device."""
    if isinstance(value, type):
        return issubclass(value, np.generic)
    return isinstance(value, np.dtype) or str(value).startswith("torch.")


def check_dtype(dtype: Any) -> None:
    """Refuses any dtype but float32; None is no wish.

    >>> check_dtype(np.float32)
    >>> check_dtype("float16")
    Traceback (most recent call last):
    ValueError: dtype is float16, expected float32: models compute in float32
    """
    name = getattr(dtype, "__name__", str(dtype)).removeprefix("torch.")
    if dtype is not None and name != "float32":
        raise ValueError(f"dtype is {name}, expected float32: models compute in float32")


def check_device(device: Any) -> None:
    """Refuses any device but the CPU; None is no wish.

    >>> check_device("cpu")
    >>> check_device("cuda:0")
    Traceback (most recent call last):
    ValueError: device is 'cuda:0', expected 'cpu': tfcore runs on the CPU
    """
    name = str(device)
    if device is not None and name != "cpu" and not name.startswith("cpu:"):
        raise ValueError(f"device is {name!r}, expected 'cpu': tfcore runs on the CPU")


def check_ways_to_hold(arguments: dict[str, Any]) -> None:
    """Passes over arguments of Transformers' that have no effect here, and refuses unknown ones.

    >>> check_ways_to_hold({"torch_dtype": "auto", "device_map": "cpu"})
    >>> check_ways_to_hold({"tensor_type": "auto"})
    Traceback (most recent call last):
    TypeError: unknown argument 'tensor_type', expected a setting of the config (bos_token_id, eos_token_id, id2label, \
label2id, output_attentions, output_hidden_states, pad_token_id) or one of attn_implementation, device_map, dtype, \
low_cpu_mem_usage, torch_dtype, trust_remote_code, use_safetensors
    """
    for name, value in arguments.items():
        if name not in _HELD:
            settings = ", ".join(sorted(CONFIG_SETTINGS))
            raise TypeError(
                f"unknown argument {name!r}, expected a setting of the config ({settings}) or one of {', '.join(_HELD)}"
            )
        if name == "device_map" and value not in (None, "auto"):
            for device in value.values() if isinstance(value, Mapping) else [value]:
                check_device(device)
