"""GGUF files as written are read; every way a file can lie is an error that names the file, and the key or tensor."""

from __future__ import annotations

import struct
import tracemalloc
import warnings

import numpy as np
import pytest
from closeness import assert_same_bits
from gguf_files import (
    BLOCKS,
    array,
    gguf_bytes,
    key,
    padded,
    smollm2,
    start,
    tensor,
    text,
    write_gguf,
)
from tfcore import _core
from tfcore.models.gguf import READABLE, GgufFile

VALUES = {
    "a string": "naïve 🦙",
    "nothing": "",
    "yes": True,
    "no": False,
    "many": 2**32 - 1,
    "less": -7,
    "half": 0.5,
    "texts": ["a", "", "ü"],
    "counts": [1, 2, 3],
    "flags": [True, False],
    "none": [],
}
NUMBERS = {0: ("B", 255), 1: ("b", -128), 2: ("H", 65535), 3: ("h", -32768), 4: ("I", 2**32 - 1), 5: ("i", -(2**31))}
NUMBERS |= {6: ("f", 1.5), 10: ("Q", 2**64 - 1), 11: ("q", -(2**63)), 12: ("d", 1e300)}
WEIGHT = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
BIAS = np.array([0.5, -2.0, 65504.0], np.float16)


def gguf_package():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("gguf")


def open_bytes(folder, content: bytes) -> GgufFile:
    (folder / "model.gguf").write_bytes(content)
    return GgufFile(folder / "model.gguf")


# ---- honest files


@pytest.mark.parametrize("version", [2, 3])
def test_a_file_is_read(tmp_path, version):
    path = write_gguf(tmp_path / "model.gguf", VALUES, {"weight": WEIGHT, "bias": BIAS}, version=version)
    file = GgufFile(path)
    assert dict(file.metadata) == VALUES
    assert file.version == version
    assert list(file.tensors) == ["weight", "bias"]
    assert file.tensors["weight"].shape == (2, 3, 4)
    assert_same_bits(file.read("weight"), WEIGHT)
    assert_same_bits(file.read("bias"), BIAS.astype(np.float32))
    with pytest.raises(KeyError):
        file.read("missing")


@pytest.mark.parametrize("kind", NUMBERS)
def test_every_kind_of_number(tmp_path, kind):
    layout, value = NUMBERS[kind]
    raw = struct.pack(f"<{layout}", value)
    content = start(0, 2) + key("one", kind, raw) + key("two", 9, array(kind, 2, 2 * raw))
    file = open_bytes(tmp_path, padded(content))
    assert dict(file.metadata) == {"one": value, "two": [value, value]}
    assert type(file.metadata["one"]) is type(value)


@pytest.mark.parametrize("kind", BLOCKS)
def test_every_type_of_tensor(tmp_path, kind):
    numbers, size = BLOCKS[kind]
    raw = np.random.default_rng(0).integers(0, 60, 6 * size, np.uint8)
    path = write_gguf(tmp_path / "model.gguf", {}, {"first": WEIGHT, "t": (kind, (3, 2 * numbers), raw.tobytes())})
    values = GgufFile(path).read("t")
    assert values.shape == (3, 2 * numbers)
    assert values.flags.c_contiguous
    assert_same_bits(values.reshape(-1), _core.dequantize(kind, raw, 6 * numbers))


def test_no_tensors_and_no_keys(tmp_path):
    file = open_bytes(tmp_path, start(0, 0))
    assert (dict(file.metadata), dict(file.tensors)) == ({}, {})


def test_tensors_of_one_number_and_of_none(tmp_path):
    path = write_gguf(tmp_path / "m", {}, {"one": np.array(3, np.float32), "none": np.zeros((0, 5), np.float16)})
    file = GgufFile(path)
    assert file.read("one") == 3
    assert file.read("none").shape == (0, 5)


@pytest.mark.parametrize("alignment", [8, 64, 4096])
def test_another_alignment(tmp_path, alignment):
    path = write_gguf(tmp_path / "m", {"general.alignment": alignment}, {"bias": BIAS, "weight": WEIGHT})
    file = GgufFile(path)
    assert file.tensors["weight"].begin == alignment
    assert_same_bits(file.read("weight"), WEIGHT)


def test_the_last_tensor_need_not_be_padded(tmp_path):
    content = gguf_bytes({}, {"weight": WEIGHT, "bias": BIAS})
    file = open_bytes(tmp_path, content[: len(content) - 32 + BIAS.nbytes])
    assert_same_bits(file.read("bias"), BIAS.astype(np.float32))


def test_float32_is_read_in_place_and_kept_from_harm(tmp_path):
    file = GgufFile(write_gguf(tmp_path / "m", {}, {"weight": WEIGHT}))
    assert not file.read("weight").flags.owndata
    assert not file.read("weight").flags.writeable
    with pytest.raises(TypeError):
        file.metadata["new"] = 1


# ---- lies

F32 = 0
NO_KEYS = start(1, 0)


def with_key(raw: bytes) -> bytes:
    return padded(start(0, 1) + raw)


def with_tensors(*entries: bytes, data: int) -> bytes:
    return padded(start(len(entries), 0) + b"".join(entries)) + bytes(data)


LIES = {
    "nothing": (b"", "begins with b'', expected b'GGUF': no GGUF file"),
    "another magic": (start(0, 0, magic=b"GGML"), "begins with b'GGML', expected b'GGUF'"),
    "the magic alone": (b"GGUF", "truncated: the version needs 4 bytes at byte 4, the file has 0"),
    "version 1": (start(0, 0, version=1), "version is 1, expected 2 or 3"),
    "version 4": (start(0, 0, version=4), "version is 4, expected 2 or 3"),
    "big-endian": (start(0, 0, version=3 << 24), r"version is 50331648 \(the file is big-endian\)"),
    "no number of tensors": (start(0, 0)[:12], "truncated: the number of tensors"),
    "no number of keys": (start(0, 0)[:20], "truncated: the number of keys"),
    "more keys than bytes": (start(0, 2**60), f"truncated: the number of keys claims {2**60} entries"),
    "more tensors than bytes": (start(2**64 - 1, 0), f"truncated: the number of tensors claims {2**64 - 1} entries"),
    "a key less than said": (start(0, 2) + key("a", 7, b"\1") + bytes(13)[:7], "truncated: the number of keys"),
    "a key's name too long": (with_key(key("k" * 65536, 7, b"\1")), "the name of key 0 is 65536 bytes long"),
    "a key's name past the end": (with_key(text("key", length=2000) + bytes(40)), "the name of key 0 needs 2000 bytes"),
    "a huge length": (with_key(text("key", length=2**64 - 1) + bytes(40)), f"the name of key 0 is {2**64 - 1} bytes"),
    "a key's name not UTF-8": (with_key(key(b"\xff\xfe", 7, b"\1")), "the name of key 0 is not UTF-8"),
    "a key twice": (padded(start(0, 2) + 2 * key("a", 7, b"\1")), "key 'a' occurs twice"),
    "an unknown kind of value": (with_key(key("a", 13, bytes(8))), "key 'a' has a value of type 13, expected one from"),
    "a boolean 2": (with_key(key("a", 7, b"\2")), "key 'a' holds 2 for a boolean, expected 0 or 1"),
    "booleans beyond 1": (with_key(key("a", 9, array(7, 3, b"\1\0\xff"))), "key 'a' holds 255 for a boolean"),
    "a value past the end": (
        start(0, 1) + key("abcdef", 12, b""),
        "truncated: the value of key 'abcdef' needs 8 bytes",
    ),
    "a string past the end": (with_key(key("a", 8, text("x", length=2**40))), f"value of key 'a' needs {2**40} bytes"),
    "a string not UTF-8": (with_key(key("a", 8, text(b"\x80abc"))), "the value of key 'a' is not UTF-8"),
    "half of a surrogate pair": (with_key(key("a", 8, text(b"\xed\xa0\x80"))), "the value of key 'a' is not UTF-8"),
    "an array past the end": (
        with_key(key("a", 9, array(4, 2**62, bytes(64)))),
        f"truncated: the array of key 'a' claims {2**62} entries of at least 4 bytes",
    ),
    "an array that wraps around": (with_key(key("a", 9, array(12, 2**61, bytes(64)))), f"claims {2**61} entries"),
    "an array of strings past the end": (with_key(key("a", 9, array(8, 2**61, bytes(64)))), f"claims {2**61} entries"),
    "booleans past the end": (with_key(key("a", 9, array(7, 2**40, bytes(64)))), f"claims {2**40} entries"),
    "a string of an array past the end": (
        with_key(key("a", 9, array(8, 2, text("x") + text("y", length=999)))),
        "the array of key 'a' needs 999 bytes",
    ),
    "a string of an array not UTF-8": (
        with_key(key("a", 9, array(8, 1, text(b"\xff")))),
        "the array of key 'a' is not",
    ),
    "an array of an unknown kind": (with_key(key("a", 9, array(99, 1, bytes(8)))), "key 'a' has a value of type 99"),
    "an array of arrays": (
        with_key(key("a", 9, 1000 * array(9, 1, b"") + array(4, 1, bytes(4)))),
        "key 'a' is an array of arrays",
    ),
    "an alignment of 0": (
        with_key(key("general.alignment", 4, bytes(4))),
        "'general.alignment' is 0, expected a power",
    ),
    "an alignment of 24": (with_key(key("general.alignment", 4, struct.pack("<I", 24))), "'general.alignment' is 24"),
    "an alignment of 4": (with_key(key("general.alignment", 4, struct.pack("<I", 4))), "'general.alignment' is 4"),
    "an alignment in words": (
        with_key(key("general.alignment", 8, text("32"))),
        "'general.alignment' is '32', expected",
    ),
    "an alignment of yes": (with_key(key("general.alignment", 7, b"\1")), "'general.alignment' is True, expected"),
    "an alignment of 2 GiB": (
        start(1, 1) + key("general.alignment", 4, struct.pack("<I", 2**31)) + tensor("a", [2], F32, 0) + bytes(64),
        "truncated: tensor 'a' ends at byte 8 of 0",
    ),
    "a tensor less than said": (start(2, 0) + tensor("a" * 30, [2], F32, 0), "truncated: the name of tensor 1"),
    "a tensor's name too long": (
        with_tensors(tensor("n" * 65, [2], F32, 0), data=8),
        "the name of tensor 0 is 65 bytes",
    ),
    "a tensor's name not UTF-8": (with_tensors(tensor(b"\xc3", [2], F32, 0), data=8), "the name of tensor 0 is not"),
    "a tensor twice": (with_tensors(tensor("a", [8], F32, 0), tensor("a", [8], F32, 32), data=64), "tensor 'a' occurs"),
    "five dimensions": (
        with_tensors(tensor("a", [1] * 5, F32, 0), data=32),
        "tensor 'a' has 5 dimensions, expected at",
    ),
    "a million dimensions": (
        NO_KEYS + text("a") + struct.pack("<I", 10**6) + bytes(64),
        "tensor 'a' has 1000000 dimensions",
    ),
    "dimensions past the end": (
        NO_KEYS + text("a") + struct.pack("<IQ", 4, 2) + bytes(8),
        "truncated: the entry of tensor 'a'",
    ),
    "no type": (NO_KEYS + tensor("a", [2, 2], F32, 0)[:-12], "truncated: the entry of tensor 'a' needs 4 bytes"),
    "no offset": (NO_KEYS + tensor("a", [2], F32, 0)[:-8], "truncated: the entry of tensor 'a' needs 8 bytes"),
    "an unknown type": (with_tensors(tensor("a", [2], 999, 0), data=32), "tensor 'a' is of the unknown type 999"),
    "a type that was given up": (with_tensors(tensor("a", [32], 4, 0), data=32), "tensor 'a' is of the unknown type 4"),
    "half of a block": (
        with_tensors(tensor("a", [48], 8, 0), data=64),
        "tensor 'a' has rows of 48, expected a multiple",
    ),
    "rows of half a block": (
        with_tensors(tensor("a", [16, 2], 8, 0), data=64),
        "tensor 'a' has rows of 16, expected a multiple of 32 for Q8_0",
    ),
    "one quantized number": (with_tensors(tensor("a", [], 8, 0), data=64), "tensor 'a' has rows of 1, expected"),
    "dimensions that overflow": (
        with_tensors(tensor("a", [2**32, 2**32, 2**32], F32, 0), data=0),
        f"truncated: tensor 'a' ends at byte {4 * 2**96} of 0",
    ),
    "a product of 0 in 64 bits": (with_tensors(tensor("a", [2**62, 4], F32, 0), data=0), f"ends at byte {2**66} of 0"),
    "a dimension of -1": (
        with_tensors(tensor("a", [2**64 - 1], F32, 0), data=32),
        "truncated: tensor 'a' ends at byte",
    ),
    "past the end": (with_tensors(tensor("a", [9], F32, 0), data=32), "truncated: tensor 'a' ends at byte 36 of 32"),
    "an offset past the end": (with_tensors(tensor("a", [2], F32, 2**63), data=32), "tensor 'a' begins at byte"),
    "an unaligned offset": (
        with_tensors(tensor("a", [2], F32, 8), data=32),
        "tensor 'a' begins at byte 8, expected a multiple of the alignment, 32",
    ),
    "a gap": (
        with_tensors(tensor("a", [2], F32, 0), tensor("b", [2], F32, 64), data=96),
        "tensor 'b' begins at byte 64, expected 32: it leaves a gap before it",
    ),
    "a gap at the front": (
        with_tensors(tensor("a", [2], F32, 32), data=64),
        "tensor 'a' begins at byte 32, expected 0",
    ),
    "an overlap": (
        with_tensors(tensor("a", [16], F32, 0), tensor("b", [2], F32, 32), data=96),
        "tensor 'b' begins at byte 32, expected 64: it overlaps the tensor before it",
    ),
    "the same bytes twice": (
        with_tensors(tensor("a", [2], F32, 0), tensor("b", [2], F32, 0), data=32),
        "tensor 'b' begins at byte 0, expected 32: it overlaps",
    ),
    "another order": (
        with_tensors(tensor("b", [2], F32, 32), tensor("a", [2], F32, 0), data=64),
        "tensor 'b' begins at byte 32, expected 0",
    ),
    "no tensor's bytes": (NO_KEYS + tensor("a", [2], F32, 0), "truncated: tensor 'a' ends at byte 8 of 0"),
    "bytes of no tensor": (
        with_tensors(tensor("a", [2], F32, 0), data=65),
        "57 bytes behind the last tensor belong to",
    ),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_lie_is_named(tmp_path, lie):
    content, message = LIES[lie]
    with pytest.raises(ValueError, match=message) as caught:
        open_bytes(tmp_path, content)
    assert str(tmp_path / "model.gguf") in str(caught.value)


@pytest.mark.parametrize("lie", LIES)
def test_a_lie_costs_no_memory(tmp_path, lie):
    content, message = LIES[lie]
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=message):
            open_bytes(tmp_path, content)
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


def test_a_file_cut_anywhere_is_refused_or_whole(tmp_path):
    content = gguf_bytes({"name": "x", "list": [1, 2]}, {"weight": WEIGHT, "bias": BIAS})
    last = len(content) - 32 + BIAS.nbytes
    for length in range(last):
        with pytest.raises(ValueError, match=r"model\.gguf: (truncated|begins with)"):
            open_bytes(tmp_path, content[:length])


def test_a_changed_byte_is_refused_or_read(tmp_path):
    """Whatever a byte becomes, the file is refused with a ValueError, or every tensor can be read."""
    content = gguf_bytes({"name": "x", "list": [1, 2]}, {"weight": WEIGHT, "bias": BIAS})
    head = len(content) - 32 - 96
    rng = np.random.default_rng(0)
    refusals = []
    for position in range(head):
        for value in (0, 255, int(rng.integers(256))):
            changed = bytearray(content)
            changed[position] = value
            try:
                file = open_bytes(tmp_path, bytes(changed))
                for name in file.tensors:
                    file.read(name)
            except ValueError as error:
                refusals.append(str(error))
    assert len(refusals) > head
    assert all("model.gguf" in message for message in refusals)


def test_a_type_that_is_not_read_is_named(tmp_path):
    path = write_gguf(tmp_path / "model.gguf", {}, {"t": ("Q2_K", (256,), bytes(84)), "weight": WEIGHT})
    file = GgufFile(path)
    assert_same_bits(file.read("weight"), WEIGHT)
    with pytest.raises(
        ValueError, match=r"model\.gguf: tensor 't' is of type Q2_K, expected one of F32, F16, BF16, Q8"
    ):
        file.read("t")


def test_a_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        GgufFile(tmp_path / "model.gguf")


# ---- the gguf package


def test_its_writer_is_understood(tmp_path):
    gguf = gguf_package()
    writer = gguf.GGUFWriter(tmp_path / "model.gguf", "llama")
    writer.add_block_count(3)
    writer.add_token_list(["a", "b"])
    writer.add_float32("half", 0.5)
    writer.add_bool("yes", True)
    writer.add_tensor("weight", WEIGHT)
    writer.add_tensor("bias", BIAS)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    file = GgufFile(tmp_path / "model.gguf")
    assert file.metadata["llama.block_count"] == 3
    assert file.metadata["tokenizer.ggml.tokens"] == ["a", "b"]
    assert (file.metadata["half"], file.metadata["yes"]) == (0.5, True)
    assert_same_bits(file.read("weight"), WEIGHT)
    assert_same_bits(file.read("bias"), BIAS.astype(np.float32))


def test_its_reader_understands_ours(tmp_path):
    """The test's own writer writes what others read."""
    gguf = gguf_package()
    values = {name: value for name, value in VALUES.items() if value != []}
    reader = gguf.GGUFReader(write_gguf(tmp_path / "m", values, {"weight": WEIGHT, "bias": BIAS}))
    for name, value in values.items():
        assert reader.fields[name].contents() == value
    assert {found.name: found.data.shape for found in reader.tensors} == {"weight": (2, 3, 4), "bias": (3,)}


def test_it_knows_the_same_types():
    gguf = gguf_package()
    from tfcore.models.gguf import _TYPES

    theirs = {int(kind): (kind.name, *gguf.GGML_QUANT_SIZES[kind]) for kind in gguf.GGMLQuantizationType}
    both = theirs.keys() & _TYPES.keys()
    assert {number: tuple(_TYPES[number]) for number in both} == {number: theirs[number] for number in both}
    assert set(READABLE) <= {name for name, _, _ in theirs.values()}


# ---- a real file


@pytest.fixture(scope="module")
def real():
    return GgufFile(smollm2())


def test_the_metadata_of_a_real_file(real):
    assert real.version == 3
    assert real.metadata["general.architecture"] == "llama"
    assert real.metadata["llama.block_count"] == 30
    assert len(real.metadata["tokenizer.ggml.tokens"]) == 49152
    assert real.metadata["tokenizer.ggml.tokens"][:3] == ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    assert real.metadata["tokenizer.ggml.add_bos_token"] is False
    assert len(real.tensors) == 272
    assert real.tensors["token_embd.weight"].shape == (49152, 576)


def test_the_gguf_package_sees_the_same_real_file(real):
    gguf = gguf_package()
    reader = gguf.GGUFReader(real.path)
    fields = {name: field for name, field in reader.fields.items() if not name.startswith("GGUF.")}
    assert list(real.metadata) == list(fields)
    assert all(real.metadata[name] == field.contents() for name, field in fields.items())
    found = {one.name: one for one in reader.tensors}
    assert {name: info.shape for name, info in real.tensors.items()} == {
        name: tuple(int(size) for size in one.shape[::-1]) for name, one in found.items()
    }
    for name in ("blk.0.attn_q.weight", "blk.29.ffn_down.weight", "output_norm.weight"):
        want = gguf.dequantize(found[name].data, found[name].tensor_type)
        assert_same_bits(real.read(name), np.asarray(want, np.float32), name)
    embeddings = found["token_embd.weight"]
    want = gguf.dequantize(embeddings.data[-100:], embeddings.tensor_type)
    assert_same_bits(real.read("token_embd.weight")[-100:], want)
