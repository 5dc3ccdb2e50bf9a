"""Code in a fresh interpreter, and what a command that failed says."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap


def in_a_subprocess(code, *before, **environment):
    """stdout of `code` in a fresh interpreter that is killed if it hangs; `before` is put before its command line."""
    done = subprocess.run(
        [*before, sys.executable, "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, **environment},
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def told(done, status=1):
    """The one line on standard error of a command that failed."""
    stdout, stderr = (text.decode() if isinstance(text, bytes) else text for text in (done.stdout, done.stderr))
    assert done.returncode == status, stderr
    assert stdout == ""
    assert stderr.startswith("tfcore: ")
    assert stderr.count("\n") == 1, stderr
    return stderr
