"""What code written for PyTorch says of devices and dtypes: taken where it asks for what tfcore is, else refused."""

from __future__ import annotations

from typing import Any

# Arguments of Transformers' from_pretrained that choose how a model is held, not what it computes; and one that lets a
# checkpoint's own code run, which never does here.
_HELD = (
    *("attn_implementation", "device_map", "dtype", "low_cpu_mem_usage", "torch_dtype", "trust_remote_code"),
    "use_safetensors",
)


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
    TypeError: unknown argument 'tensor_type', expected one of attn_implementation, device_map, dtype, \
low_cpu_mem_usage, torch_dtype, trust_remote_code, use_safetensors
    """
    for name, value in arguments.items():
        if name not in _HELD:
            raise TypeError(f"unknown argument {name!r}, expected one of {', '.join(_HELD)}")
        if name == "device_map" and value not in (None, "auto"):
            check_device(value)
