"""Runs a command as a person does: on a terminal of its own, or until Ctrl-C."""

from __future__ import annotations

import contextlib
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

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


@contextmanager
def interruptible(
    arguments: list[str], environment: Mapping[str, str], stderr: int | None = None
) -> Iterator[subprocess.Popen[str]]:
    """A running `weft ...` whose output is read as text; whatever is left of it is ended.

    SIGINT reaches it also where the tests themselves were started in a shell's background, which
    has its children ignore it.
    """

    def heed() -> None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    with subprocess.Popen(
        [*WEFT, *arguments], stdout=subprocess.PIPE, stderr=stderr, text=True,
        env=os.environ | dict(environment), preexec_fn=heed,
    ) as process:  # fmt: skip
        try:
            yield process
        finally:
            process.kill()
