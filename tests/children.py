"""Code in a fresh interpreter."""

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
        timeout=120,
        env={**os.environ, **environment},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
