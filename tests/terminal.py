"""Runs a command on a terminal of its own, to see what a person sees."""

from __future__ import annotations

import contextlib
import os
import pty
import subprocess
import sys
from collections.abc import Mapping

WEFT = (sys.executable, "-c", "from stream.cli import main; main()")


def on_a_terminal(arguments: list[str], environment: Mapping[str, str]) -> tuple[int, str]:
    """The exit code of `weft ...` and what it wrote to the terminal, 160 columns wide."""
    ours, theirs = pty.openpty()
    dumb = {"TERM": "dumb", "COLUMNS": "160"}
    command = [*WEFT, *arguments]
    variables = os.environ | dumb | dict(environment)
    with subprocess.Popen(command, stdout=theirs, stderr=theirs, env=variables) as process:
        os.close(theirs)
        output = b""
        with contextlib.suppress(OSError):  # Linux's way to say that the other end is closed
            while chunk := os.read(ours, 4096):
                output += chunk
        code = process.wait(120)
    os.close(ours)
    return code, output.decode()
