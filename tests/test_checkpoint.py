"""Safetensors files, honest and lying: each way a file can lie is an error that names file and tensor."""

import json
import re

import numpy as np
import pytest
from checkpoints import safetensors_bytes, write_safetensors
from tfcore.models.checkpoint import Checkpoint

WEIGHT = np.arange(6, dtype=np.float32).reshape(2, 3)
BIAS = np.array([0.5, -1.5], np.float32)


def entry(shape, begin, end, dtype="F32"):
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def open_bytes(folder, content):
    (folder / "model.safetensors").write_bytes(content)
    return Checkpoint.open(folder)


# ---- honest files


def test_float32_is_read_in_place(tmp_path):
    write_safetensors(tmp_path / "model.safetensors", {"weight": WEIGHT, "bias": BIAS}, pad_header=200)
    checkpoint = Checkpoint.open(tmp_path)
    assert list(checkpoint) == ["weight", "bias"]
    for name, want in {"weight": WEIGHT, "bias": BIAS}.items():
        got = checkpoint[name]
        assert got.dtype == np.float32
        assert got.shape == want.shape == checkpoint.shape(name)
        assert np.array_equal(got, want)
        assert not got.flags.owndata
        assert not got.flags.writeable, "a view of the file's pages"


def test_arrays_outlive_the_checkpoint(tmp_path):
    write_safetensors(tmp_path / "model.safetensors", {"weight": WEIGHT})
    array = Checkpoint.open(tmp_path)["weight"]
    (tmp_path / "model.safetensors").unlink()
    assert np.array_equal(array, WEIGHT)


def test_every_float_becomes_float32(tmp_path):
    values = np.array([0.0, -0.0, 1.0, -2.5, 65504.0, 6e-8, np.inf, -np.inf, np.nan], np.float64)
    upper_half = (values.astype(np.float32).view(np.uint32) >> 16).astype(np.uint16)
    tensors = {"F16": values.astype(np.float16), "BF16": upper_half, "F64": values, "F32": values.astype(np.float32)}
    write_safetensors(tmp_path / "model.safetensors", tensors)
    checkpoint = Checkpoint.open(tmp_path)
    want = {
        "F16": values.astype(np.float16).astype(np.float32),
        "BF16": (upper_half.astype(np.uint32) << 16).view(np.float32),
        "F64": values.astype(np.float32),
        "F32": values.astype(np.float32),
    }
    for name, expected in want.items():
        assert checkpoint[name].dtype == np.float32
        assert checkpoint[name].tobytes() == expected.tobytes(), name


def test_bfloat16_of_known_bits(tmp_path):
    write_safetensors(tmp_path / "model.safetensors", {"weight": np.array([0x3F80, 0xC040, 0x0000], np.uint16)})
    assert Checkpoint.open(tmp_path)["weight"].tolist() == [1.0, -3.0, 0.0]


@pytest.mark.parametrize("shift", range(4))
def test_tensors_at_any_address_come_aligned(tmp_path, shift):
    write_safetensors(tmp_path / "model.safetensors", {"weight": WEIGHT}, pad_header=200 + shift)
    array = Checkpoint.open(tmp_path)["weight"]
    assert array.flags.aligned
    assert array.flags.c_contiguous
    assert np.array_equal(array, WEIGHT)


def test_scalars_and_empty_tensors(tmp_path):
    tensors = {"scalar": np.array(2.5, np.float32), "empty": np.zeros((0, 3), np.float32), "last": BIAS}
    write_safetensors(tmp_path / "model.safetensors", tensors)
    checkpoint = Checkpoint.open(tmp_path)
    assert checkpoint["scalar"].shape == ()
    assert checkpoint["scalar"] == 2.5
    assert checkpoint["empty"].shape == (0, 3)
    assert np.array_equal(checkpoint["last"], BIAS)


def test_a_file_of_nothing_but_an_empty_tensor(tmp_path):
    write_safetensors(tmp_path / "model.safetensors", {"empty": np.zeros((0,), np.float32)})
    assert Checkpoint.open(tmp_path)["empty"].size == 0


def test_agrees_with_the_library(tmp_path):
    library = pytest.importorskip("safetensors.numpy")
    tensors = {"weight": WEIGHT, "half": WEIGHT.astype(np.float16), "wide": WEIGHT.astype(np.float64)}
    library.save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "np"})
    checkpoint = Checkpoint.open(tmp_path)
    assert sorted(checkpoint) == sorted(tensors)
    assert all(np.array_equal(checkpoint[name], WEIGHT) for name in tensors)


# ---- files that lie

TWO = {"a": entry([2], 0, 8), "b": entry([2], 8, 16)}
LIES = {
    "no bytes": (b"", "truncated"),
    "half a length": (b"\x08\0\0", "truncated"),
    "header longer than the file": (safetensors_bytes({}, length=1000), "truncated.*1000"),
    "header too large": (safetensors_bytes({}, length=10**15), "claims 1000000000000000 bytes"),
    "header of negative length": (b"\xff" * 8 + b"{}", "claims 18446744073709551615 bytes"),
    "not JSON": (safetensors_bytes(b"{weight}"), "header cannot be read"),
    "not UTF-8": (safetensors_bytes(b'{"\xff": 1}'), "header cannot be read"),
    "JSON of another kind": (safetensors_bytes([1, 2]), "header is a JSON list"),
    "JSON too deep": (safetensors_bytes(b"[" * 100_000), "header cannot be read"),
    "a number of 5000 digits": (
        safetensors_bytes(b'{"a": ' + b"9" * 5000 + b"}"),
        "header cannot be read|not an object",
    ),
    "a name twice": (
        safetensors_bytes(b'{"a": ' + json.dumps(TWO["a"]).encode() + b', "a": 1}', bytes(8)),
        "'a' occurs 2 times",
    ),
    "a field twice": (
        safetensors_bytes(b'{"a": {"dtype": "F32", "dtype": "F32", "shape": [], "data_offsets": [0, 4]}}', bytes(4)),
        "'dtype' occurs 2 times",
    ),
    "an entry that is no object": (safetensors_bytes({"a": 3}), "tensor 'a'.*not an object"),
    "no dtype": (safetensors_bytes({"a": {"shape": [2], "data_offsets": [0, 8]}}, bytes(8)), "tensor 'a'.*dtype"),
    "no shape": (safetensors_bytes({"a": {"dtype": "F32", "data_offsets": [0, 8]}}, bytes(8)), "tensor 'a'.*shape"),
    "no offsets": (safetensors_bytes({"a": {"dtype": "F32", "shape": [2]}}, bytes(8)), "tensor 'a'.*data_offsets"),
    "unknown dtype": (safetensors_bytes({"a": entry([2], 0, 8, "F31")}, bytes(8)), "tensor 'a': unknown dtype 'F31'"),
    "a dtype that is no string": (safetensors_bytes({"a": entry([2], 0, 8, ["F32"])}, bytes(8)), "tensor 'a'.*dtype"),
    "negative size": (safetensors_bytes({"a": entry([-2], 0, 8)}, bytes(8)), r"tensor 'a': shape is \[-2\]"),
    "two negative sizes": (safetensors_bytes({"a": entry([-1, -2], 0, 8)}, bytes(8)), "tensor 'a': shape is"),
    "size of a float": (safetensors_bytes({"a": entry([2.0], 0, 8)}, bytes(8)), "tensor 'a': shape is"),
    "size of a bool": (safetensors_bytes({"a": entry([True, 2], 0, 8)}, bytes(8)), "tensor 'a': shape is"),
    "shape that is no list": (safetensors_bytes({"a": entry(2, 0, 8)}, bytes(8)), "tensor 'a': shape is 2"),
    "one offset": (
        safetensors_bytes({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0]}}, bytes(8)),
        r"tensor 'a': data_offsets is \[0\]",
    ),
    "offsets backwards": (
        safetensors_bytes({"a": entry([2], 8, 0)}, bytes(8)),
        r"tensor 'a': data_offsets is \[8, 0\]",
    ),
    "negative offset": (
        safetensors_bytes({"a": entry([2], -8, 0)}, bytes(8)),
        r"tensor 'a': data_offsets is \[-8, 0\]",
    ),
    "too few bytes for the shape": (safetensors_bytes({"a": entry([3], 0, 8)}, bytes(8)), "tensor 'a'.*is 12 bytes.*8"),
    "too many bytes for the shape": (safetensors_bytes({"a": entry([1], 0, 8)}, bytes(8)), "tensor 'a'.*is 4 bytes.*8"),
    "sizes without end": (
        safetensors_bytes(
            b'{"a": {"dtype": "F32", "data_offsets": [0, 0], "shape": [' + b"9999999999, " * 10**5 + b"0]}}"
        ),
        "tensor 'a': shape is .{60}, expected a list of at most 64 integers >= 0",
    ),
    "a size of thousands of digits": (
        safetensors_bytes(b'{"a": {"dtype": "F32", "data_offsets": [0, 0], "shape": [' + b"9" * 4000 + b"]}}"),
        "tensor 'a': shape is .{60}, expected a list",
    ),
    "a product that overflows": (
        safetensors_bytes({"a": entry([2**32, 2**32], 0, 0)}),
        f"tensor 'a'.*is {4 * 2**64} bytes",
    ),
    "past the end": (safetensors_bytes(TWO, bytes(12)), "truncated: tensor 'b' ends at byte 16 of 12"),
    "an overlap": (
        safetensors_bytes({"a": entry([2], 0, 8), "b": entry([2], 4, 12)}, bytes(12)),
        "tensor 'b' begins at byte 4, expected 8: it overlaps",
    ),
    "the same bytes twice": (
        safetensors_bytes({"a": entry([2], 0, 8), "b": entry([2], 0, 8)}, bytes(8)),
        "tensor 'b' begins at byte 0, expected 8: it overlaps",
    ),
    "a gap": (
        safetensors_bytes({"a": entry([2], 0, 8), "b": entry([2], 12, 20)}, bytes(20)),
        "tensor 'b' begins at byte 12, expected 8: it leaves a gap",
    ),
    "a gap at the front": (safetensors_bytes({"a": entry([2], 4, 12)}, bytes(12)), "tensor 'a' begins at byte 4"),
    "bytes of no tensor": (safetensors_bytes(TWO, bytes(20)), "4 bytes behind the last tensor"),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_lie_is_named(tmp_path, lie):
    content, message = LIES[lie]
    with pytest.raises(ValueError, match=message) as caught:
        open_bytes(tmp_path, content)
    assert str(tmp_path / "model.safetensors") in str(caught.value)


def test_an_integer_tensor_is_no_weight(tmp_path):
    write_safetensors(tmp_path / "model.safetensors", {"ids": np.arange(4)})
    checkpoint = Checkpoint.open(tmp_path)
    with pytest.raises(ValueError, match=r"model\.safetensors: tensor 'ids' is of dtype I64, expected one of F16"):
        checkpoint["ids"]


def test_float64_beyond_float32_is_refused(tmp_path):
    write_safetensors(tmp_path / "model.safetensors", {"weight": np.array([1e300])})
    checkpoint = Checkpoint.open(tmp_path)
    with pytest.raises(ValueError, match="tensor 'weight' holds values too large for float32"):
        checkpoint["weight"]


# ---- shards


def write_shards(folder, weight_map):
    write_safetensors(folder / "one.safetensors", {"weight": WEIGHT})
    write_safetensors(folder / "two.safetensors", {"bias": BIAS})
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))


def test_shards(tmp_path):
    write_shards(tmp_path, {"weight": "one.safetensors", "bias": "two.safetensors"})
    checkpoint = Checkpoint.open(tmp_path)
    assert np.array_equal(checkpoint["weight"], WEIGHT)
    assert np.array_equal(checkpoint["bias"], BIAS)
    assert checkpoint.file("bias") == tmp_path / "two.safetensors"


@pytest.mark.parametrize(
    ("weight_map", "message"),
    [
        ({}, "'weight_map' is missing or empty"),
        (["weight"], "'weight_map' is missing or empty"),
        ({"weight": 3}, "tensor 'weight' is in 3"),
        ({"weight": "../one.safetensors"}, r"tensor 'weight' is in '\.\./one"),
        ({"weight": "/etc/passwd"}, "tensor 'weight' is in '/etc/passwd'"),
        ({"weight": "one.safetensors", "bias": "one.safetensors"}, "tensor 'bias' is said to be in one.safetensors"),
        ({"bias": "two.safetensors", "more": "two.safetensors"}, "tensor 'more' is said to be in two.safetensors"),
    ],
)
def test_an_index_that_lies(tmp_path, weight_map, message):
    write_shards(tmp_path, weight_map)
    with pytest.raises(ValueError, match=message) as caught:
        Checkpoint.open(tmp_path)
    assert "model.safetensors.index.json" in str(caught.value)


def test_a_shard_with_a_tensor_the_index_leaves_out(tmp_path):
    write_shards(tmp_path, {"weight": "one.safetensors", "bias": "two.safetensors"})
    write_safetensors(tmp_path / "two.safetensors", {"bias": BIAS, "extra": BIAS})
    with pytest.raises(ValueError, match=r"two\.safetensors holds tensor 'extra', which the index places in None"):
        Checkpoint.open(tmp_path)


def test_a_missing_shard(tmp_path):
    write_shards(tmp_path, {"weight": "one.safetensors", "bias": "three.safetensors"})
    with pytest.raises(FileNotFoundError, match=r"index\.json lists the shard three\.safetensors"):
        Checkpoint.open(tmp_path)


# ---- no safetensors at all


def test_pickles_are_refused_with_the_way_to_convert(tmp_path):
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x02")
    with pytest.raises(FileNotFoundError, match=r"only pytorch_model\.bin.*save_pretrained") as caught:
        Checkpoint.open(tmp_path)
    assert f"from_pretrained('{tmp_path}')" in str(caught.value)


def test_an_empty_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match=re.escape(f"{tmp_path} holds no model.safetensors")):
        Checkpoint.open(tmp_path)
