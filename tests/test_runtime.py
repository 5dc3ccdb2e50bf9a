"""Threads and instruction sets: what is chosen, why, and what a wrong choice says."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import tfcore
from tfcore.runtime import default_threads

CPUS = len(os.sched_getaffinity(0))


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch):
    for name in ("TFCORE_NUM_THREADS", "OMP_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)


def machine(root, cgroup, files):
    """A faked tree: /proc/self/cgroup and files below /sys/fs/cgroup."""
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(cgroup)
    for name, text in files.items():
        path = root / "sys/fs/cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.mark.parametrize(
    ("cgroup", "files", "threads"),
    [
        ("0::/\n", {"cpu.max": "50000 100000\n"}, 1),
        ("0::/a/b\n", {"a/b/cpu.max": "max 100000\n", "a/cpu.max": "100000 100000\n"}, 1),
        (
            "4:cpu,cpuacct:/x\n",
            {"cpu,cpuacct/x/cpu.cfs_quota_us": "20000", "cpu,cpuacct/x/cpu.cfs_period_us": "100000"},
            1,
        ),
        ("4:cpu:/x\n", {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, CPUS),
        ("0::/gone\n", {"cpu.max": "nonsense\n"}, CPUS),
        ("not a line\n", {}, CPUS),
    ],
)
def test_the_quota_of_the_control_group(tmp_path, cgroup, files, threads):
    got, reason = default_threads(machine(tmp_path, cgroup, files))
    if threads < CPUS:
        assert "quota" in reason
    assert got == threads


def test_a_quota_that_is_no_whole_number_is_rounded_up(tmp_path):
    got, _ = default_threads(machine(tmp_path, "0::/\n", {"cpu.max": "110000 100000\n"}))
    assert got == min(2, CPUS)


def test_without_proc_and_sys_the_affinity_counts(tmp_path):
    assert default_threads(tmp_path) == (CPUS, "CPU affinity")


def test_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1,4")
    assert default_threads(tmp_path)[0] == 1
    monkeypatch.setenv("TFCORE_NUM_THREADS", "3")
    assert default_threads(tmp_path) == (3, "TFCORE_NUM_THREADS")
    monkeypatch.setenv("TFCORE_NUM_THREADS", "many")
    with pytest.raises(ValueError, match="TFCORE_NUM_THREADS is 'many'"):
        default_threads(tmp_path)


def run(code, **environment):
    return subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **environment}, capture_output=True, text=True, timeout=60
    )


@pytest.mark.parametrize("name", tfcore.available_isas())
def test_a_forced_isa_is_the_one_in_use(name):
    assert run("import tfcore; print(tfcore.isa())", TFCORE_ISA=name).stdout.strip() == name


def test_a_wrong_isa_is_an_error_that_lists_the_right_ones():
    result = run("import tfcore", TFCORE_ISA="avx9")
    assert result.returncode == 1
    assert "'avx9'" in result.stderr
    assert all(f"'{name}'" in result.stderr for name in tfcore.available_isas())
    with pytest.raises(ValueError, match="avx9"), tfcore.use_isa("avx9"):
        pass


def test_contexts_restore_what_was():
    before = tfcore.get_num_threads(), tfcore.isa()
    with tfcore.num_threads(before[0] + 1), tfcore.use_isa(tfcore.available_isas()[-1]):
        assert (tfcore.get_num_threads(), tfcore.isa()) == (before[0] + 1, tfcore.available_isas()[-1])
    assert (tfcore.get_num_threads(), tfcore.isa()) == before


@pytest.mark.parametrize("n", [0, -1, 5000])
def test_a_number_of_threads_out_of_range(n):
    with pytest.raises(ValueError, match=f"n is {n}"):
        tfcore.set_num_threads(n)


def test_show_config_names_everything(capsys):
    tfcore.show_config()
    printed = capsys.readouterr().out
    assert tfcore.isa() in printed
    assert tfcore.__version__ in printed
