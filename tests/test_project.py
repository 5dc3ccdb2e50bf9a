"""The house rules that a machine can check: arrows, symbols of the instruction sets' objects, sizes, the stub file."""

from __future__ import annotations

import ast
import inspect
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from children import in_a_subprocess
from isas import ISAS, LOWERED
from signatures import Parameter, parameters, parameters_of_node
from tfcore import _core

ROOT = Path(__file__).resolve().parents[1]
CSRC, PACKAGE = ROOT / "csrc", ROOT / "python" / "tfcore"
SOURCES = sorted(p for p in CSRC.rglob("*") if p.suffix in (".hpp", ".cpp"))
MODULES = sorted(PACKAGE.rglob("*.py"))


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


# --- arrows ----------------------------------------------------------------------------------------------------------


def arrows() -> dict[str, set[str]]:
    """The table in CONTRIBUTING.md: what each folder of csrc/ and each module of the package may use."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    block = re.search(r"^## The arrows$.*?^```arrows\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert block, "CONTRIBUTING.md has no ```arrows block under '## The arrows'"
    lines = (line.partition(":") for line in block[1].splitlines() if line.strip())
    return {name.strip(): set(allowed.split()) for name, _, allowed in lines}


ARROWS = arrows()


def includes(path: Path) -> list[str]:
    """The files of csrc/ that a file includes."""
    return re.findall(r'^\s*#\s*include\s*"([^"]+)"', path.read_text(encoding="utf-8"), re.MULTILINE)


@pytest.mark.parametrize("path", SOURCES, ids=relative)
def test_includes_follow_the_arrows(path):
    folder = path.relative_to(CSRC).parts[0]
    assert folder in ARROWS, f"csrc/{folder} has no line in CONTRIBUTING.md"
    for included in includes(path):
        assert (CSRC / included).is_file(), f"{relative(path)} includes {included}, which is not in csrc/"
        target = included.partition("/")[0]
        allowed = {folder, *ARROWS[folder]}
        assert {target, included} & allowed, f"{relative(path)} includes {included}; the table allows {sorted(allowed)}"


def imports(path: Path) -> set[str]:
    """The top modules of the package that a file imports, also inside its functions."""
    found = set()
    here = path.relative_to(PACKAGE.parent).parts[:-1]  # ("tfcore", …): the package the file is in
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name.split(".") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            start = list(here[: len(here) - node.level + 1]) if node.level else []
            module = start + (node.module.split(".") if node.module else [])
            names = [[*module, alias.name] for alias in node.names]
        else:
            continue
        found |= {name[1] for name in names if name[0] == "tfcore" and len(name) > 1}
    return {name for name in found if name in ARROWS}  # not what the package's own __init__ defines


@pytest.mark.parametrize("path", MODULES, ids=relative)
def test_imports_follow_the_arrows(path):
    top = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    if top in ("__init__", "__main__"):  # these hand on what the others hold
        return
    assert top in ARROWS, f"{relative(path)} has no line in CONTRIBUTING.md"
    extra = imports(path) - {top} - ARROWS[top]
    assert not extra, f"{relative(path)} imports {sorted(extra)}; the table allows {sorted(ARROWS[top])}"


def test_the_arrows_name_what_exists_and_run_in_no_circle():
    folders = {p.name for p in CSRC.iterdir() if p.is_dir()}
    modules = {p.stem for p in PACKAGE.iterdir() if p.suffix == ".py" or (p / "__init__.py").is_file()}
    assert set(ARROWS) <= folders | modules | {"_core"}
    done: set[str] = set()
    while len(done) < len(ARROWS):
        ready = {n for n, uses in ARROWS.items() if {u.partition("/")[0] for u in uses} <= done | {n}} - done
        assert ready, f"a circle among {sorted(set(ARROWS) - done)}"
        done |= ready


def test_arrows_are_really_read():
    """The readers above see an include and an import that are known to be there."""
    assert "_core" in imports(PACKAGE / "ops.py")
    assert "kernels/attention.hpp" in includes(CSRC / "isa" / "kernels.cpp")
    assert len(SOURCES) > 10
    assert len(MODULES) > 5


def test_the_core_needs_numpy_alone():
    code = (
        "import sys, numpy; before = set(sys.modules)\n"
        "import tfcore, tfcore.nn, tfcore.reference, tfcore.drop_in, tfcore.runtime\n"
        "print(*sorted({name.partition('.')[0] for name in set(sys.modules) - before}))"
    )
    others = set(in_a_subprocess(code).split()) - set(sys.stdlib_module_names) - {"numpy", "tfcore"}
    assert not others, f"import tfcore brings in {sorted(others)}"


# --- the objects of the instruction sets -----------------------------------------------------------------------------

CMAKE = (ROOT / "CMakeLists.txt").read_text(encoding="utf-8")
ISA_ROWS = re.findall(r"^\s*add_isa\((\S+)\s+(\S+)\s+(\d+)\s+(\d+)\s+([^)\n]+)\)", CMAKE, re.MULTILINE)
X86 = platform.machine() in ("x86_64", "AMD64")
OURS = [row for row in ISA_ROWS if row[0].startswith("x86") == X86]
SHIPPED = [row for row in OURS if row[0] != LOWERED]


def test_the_isa_table_is_read():
    assert [row[0] for row in ISA_ROWS] == ["x86-64-v2", "x86-64-v3", "x86-64-v4", LOWERED, "neon"]
    assert {row[0] for row in OURS} >= set(ISAS)


def test_a_row_for_tests_is_not_offered():
    assert LOWERED not in _core.available_isas()


@pytest.fixture(scope="module", params=SHIPPED, ids=[row[0] for row in SHIPPED])
def symbols(request, tmp_path_factory):
    """(kind, name) of every symbol of an instruction set's object, compiled unoptimised: nothing is inlined away."""
    if not shutil.which("g++") or not shutil.which("nm"):
        pytest.skip("there is no g++ or nm here")
    name, symbol, vector_bytes, registers, flags = request.param
    common = re.search(r"set\(TFCORE_KERNEL_FLAGS\s+([^)]+)\)", CMAKE)[1].split()
    unoptimised = [flag for flag in common if not flag.startswith("-O")] + ["-O0", "-std=c++17", "-fPIC"]
    defines = [
        f'-DTFCORE_ISA_NAME="{name}"',
        f"-DTFCORE_ISA_TABLE=kernels_{symbol}",
        f"-DTFCORE_VEC_BYTES={vector_bytes}",
        f"-DTFCORE_VEC_REGISTERS={registers}",
    ]
    target = tmp_path_factory.mktemp("isa") / "kernels.o"
    command = ["g++", *unoptimised, *flags.split(), *defines, f"-I{CSRC}", "-c", str(CSRC / "isa" / "kernels.cpp")]
    subprocess.run([*command, "-o", str(target)], check=True, timeout=300)
    listing = subprocess.run(["nm", "-C", str(target)], capture_output=True, text=True, check=True).stdout
    return [re.fullmatch(r"[0-9a-f ]{16} (\S) (.+)", line).groups() for line in listing.splitlines()], symbol


def test_an_isa_exports_its_table_and_nothing_else(symbols):
    """Anything else, above all a weak template, could be merged with another instruction set's by the linker."""
    listed, symbol = symbols
    exported = [name for kind, name in listed if (kind.isupper() and kind != "U") or kind in "uvw"]
    assert exported == [f"tfcore::kernels_{symbol}"]
    assert len(listed) > 20, "nm listed next to nothing"


def test_kernels_use_no_python_threads_allocation_or_exceptions(symbols):
    listed, _ = symbols
    needed = {name for kind, name in listed if kind == "U"} - {"_GLOBAL_OFFSET_TABLE_", "__stack_chk_fail"}
    allowed = {"memcpy", "memset", "memmove", "sin", "cos", "sincos", "sqrt", "sqrtf", "fma", "fmaf"}
    assert needed <= allowed, f"the kernels call {sorted(needed - allowed)}"


# --- sizes and leftovers ---------------------------------------------------------------------------------------------

MOST_FUNCTION_LINES, MOST_FILE_LINES = 60, 400


def functions(text: str):
    """(first line, last line, header) of each function: a block in the scope of a namespace, struct or class."""
    blank = re.sub(r'//[^\n]*|"(?:\\.|[^"\\\n])*"', lambda m: " " * len(m[0]), text)
    blank = re.sub(r"/\*.*?\*/", lambda m: re.sub(r"[^\n]", " ", m[0]), blank, flags=re.DOTALL)
    blank = re.sub(r"^[ \t]*#(?:[^\n]*\\\n)*[^\n]*", lambda m: re.sub(r"[^\n]", " ", m[0]), blank, flags=re.MULTILINE)
    scopes, header_at = [], 0
    for i, c in enumerate(blank):
        if c == "{":
            header = blank[header_at:i]
            is_scope = bool(re.search(r"\b(namespace|struct|class|enum|union)\b[^()=]*$", header))
            starts = header_at + len(header) - len(header.lstrip())
            within = all(scope for scope, _, _ in scopes)
            scopes.append((is_scope, starts if within and "(" in header and not is_scope else None, header.strip()))
        elif c == "}":
            _, start, header = scopes.pop()
            if start is not None:
                yield blank.count("\n", 0, start) + 1, blank.count("\n", 0, i) + 1, header
        if c in "{};":
            header_at = i + 1


def test_functions_are_found():
    text = """
namespace a { namespace {
struct S { int size() const { return 1; } int x[2] = {1, 2}; };
// a comment with a brace {
template <class T> T twice(T x) {
  if (x) {
    return "}"[0] + x;
  }
  return [&] { return x; }();
}
constexpr int table[] = {1, 2};
} }
"""
    assert [(first, last) for first, last, _ in functions(text)] == [(3, 3), (5, 10)]


@pytest.mark.parametrize("path", [p for p in SOURCES if "kernels" in p.parts], ids=relative)
def test_kernels_are_short(path):
    text = path.read_text(encoding="utf-8")
    found = list(functions(text))
    long = [f"{header.splitlines()[0]} has {b - a + 1} lines" for a, b, header in found if b - a >= MOST_FUNCTION_LINES]
    assert not long, f"{relative(path)}: {long}; {MOST_FUNCTION_LINES} is the most"
    assert text.count("\n") <= MOST_FILE_LINES, f"{relative(path)} has {text.count(chr(10))} lines, the most is 400"
    assert found or path.name == "table.hpp", f"no function was found in {relative(path)}"


def test_nothing_is_left_to_be_done():
    mark = re.compile("|".join(rf"\b{word}\b" for word in ("TO" + "DO", "FIX" + "ME", "XX" + "X")))
    files = [*SOURCES, *MODULES, *Path(__file__).parent.glob("*.py"), *ROOT.glob("*.md"), ROOT / "CMakeLists.txt"]
    assert [relative(path) for path in files if mark.search(path.read_text(encoding="utf-8"))] == []


def test_the_library_speaks_of_arguments_and_the_command_of_options():
    """Outside cli/ no message has an option of ours in it; docstrings and other programs' options may be."""
    option = re.compile(r"(?<!pip install )(?<!llama-gguf-split )--[a-z][\w-]*")
    said = {relative(p): option.findall(" ".join(strings(p))) for p in MODULES if p.parent.name != "cli"}
    assert {name: found for name, found in said.items() if found} == {}
    assert option.findall(" ".join(strings(PACKAGE / "cli" / "embed.py")))[:2] == ["--model", "--json"]


def strings(path: Path) -> list[str]:
    """A file's string constants, those that stand alone as docstrings do aside."""
    nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    alone = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
    return [n.value for n in nodes if isinstance(n, ast.Constant) and isinstance(n.value, str) and id(n) not in alone]


# --- the stub file ---------------------------------------------------------------------------------------------------

STUB = ast.parse((PACKAGE / "_core.pyi").read_text(encoding="utf-8"))


def defined_in_stub(body) -> dict[str, ast.AST]:
    found = {}
    for node in body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            found[node.name] = node
        elif isinstance(node, ast.AnnAssign):
            found[node.target.id] = node
    return found


def same_parameters(stub: list[Parameter], real: list[Parameter]) -> bool:
    """A compiled function's parameters without a name are arg0, arg1, …: such can be given by position only."""
    if len(stub) != len(real):
        return False
    for (name, kind, default), (real_name, real_kind, real_default) in zip(stub, real, strict=True):
        unnamed = re.fullmatch(r"arg\d+", real_name) is not None
        expected_kind = "POSITIONAL_ONLY" if unnamed else real_kind
        if (kind, default) != (expected_kind, real_default) or not (unnamed or name == real_name):
            return False
    return True


def compare(stub: ast.AST, real, where: str) -> None:
    if isinstance(stub, ast.FunctionDef) and any(ast.unparse(d) == "property" for d in stub.decorator_list):
        assert isinstance(real, property), where
    elif isinstance(stub, ast.FunctionDef):
        assert same_parameters(parameters_of_node(stub.args), parameters(real)), f"{where}: {parameters(real)}"
    elif isinstance(stub, ast.ClassDef):
        assert inspect.isclass(real), where
        members = defined_in_stub(stub.body)
        public = {name for name in vars(real) if not name.startswith("_")}
        assert public == {name for name in members if not name.startswith("_")}, where
        for name, member in members.items():
            compare(member, getattr(real, name), f"{where}.{name}")
    else:
        assert type(real).__name__ == ast.unparse(stub.annotation), where


def test_the_stub_file_lists_what_the_module_has():
    stub = defined_in_stub(STUB.body)
    public = {name for name in vars(_core) if not name.startswith("_")}
    assert public == {name for name in stub if not name.startswith("_")}
    for name, node in stub.items():
        compare(node, getattr(_core, name), name)


def test_the_comparison_with_the_stub_file_can_fail():
    real = [("arg0", "POSITIONAL_OR_KEYWORD", None), ("out", "KEYWORD_ONLY", "None")]
    good = [("x", "POSITIONAL_ONLY", None), ("out", "KEYWORD_ONLY", "None")]
    assert same_parameters(good, real)
    for bad in (
        good[:1],
        [("x", "POSITIONAL_OR_KEYWORD", None), good[1]],
        [good[0], ("result", "KEYWORD_ONLY", "None")],
        [good[0], ("out", "KEYWORD_ONLY", None)],
        [good[0], ("out", "KEYWORD_ONLY", "0")],
    ):
        assert not same_parameters(bad, real)
