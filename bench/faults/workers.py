"""The workers' processes and their supervisor: started again whenever they are gone."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

from bench.faults.kill_points import KillPoint
from testbed.kafka import die_with_parent

_LEAVES_WITHIN: Final = 20.0


@dataclass(frozen=True, slots=True)
class Setup:
    """What every worker of a run is started with."""

    bootstrap: str
    group: str
    folder: Path
    session_timeout: float
    bug: str


@dataclass(slots=True)
class Worker:
    """One place for a process; ``wanted`` whether the supervisor keeps it filled."""

    setup: Setup
    name: str
    wanted: bool = False
    starts: list[float] = field(default_factory=list)  # epoch s of each start
    ended_itself: int = 0
    not_before: float = 0.0  # epoch s: the supervisor waits until then
    _process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Starts a process."""
        s = self.setup
        command = [sys.executable, "-m", "bench.faults.worker", s.bootstrap, s.group]
        command += [str(s.folder), self.name, str(s.session_timeout), s.bug]
        threads = {"OMP_NUM_THREADS": "1", "WEFT_THREADS": "1"}
        with (s.folder / f"{self.name}.log").open("ab") as log:
            self.starts.append(time.time())
            self._process = subprocess.Popen(
                command,
                stdout=log,
                stderr=log,
                env=os.environ | threads,
                preexec_fn=die_with_parent if sys.platform == "linux" else None,
            )

    def supervise(self) -> None:
        """Starts the process again where it is wanted and gone."""
        if not self.wanted or self.alive() or time.time() < self.not_before:
            return
        if self._process is not None and self._process.returncode > 0:
            self.ended_itself += 1
        self.start()

    def alive(self) -> bool:
        """Whether a process is there, stopped ones included."""
        return self._process is not None and self._process.poll() is None

    def aim(self, point: KillPoint) -> None:
        """From now on the process SIGKILLs itself when it comes to ``point``."""
        self._aim.write_text(point)

    def hit(self, patience: float = 10.0) -> bool:
        """Waits for what ``aim`` brings, and takes it back; False where it did not come in time."""
        until = time.monotonic() + patience
        while self.alive() and time.monotonic() < until:
            time.sleep(0.02)
        self._aim.unlink()
        return not self.alive()

    @property
    def _aim(self) -> Path:
        return self.setup.folder / f"{self.name}.kill"

    def signal(self, number: int) -> bool:
        """Sends a signal to the process; False where there is none."""
        if self._process is None or not self.alive():
            return False
        self._process.send_signal(number)
        return True

    def kill(self) -> bool:
        """SIGKILL, waited for; False where there was nothing to kill."""
        if self._process is None or not self.signal(signal.SIGKILL):
            return False
        self._process.wait()
        return True

    def leave(self) -> None:
        """SIGTERM, upon which the worker leaves the group; SIGKILL after 20 s."""
        if self._process is not None and self.signal(signal.SIGTERM):
            try:
                self._process.wait(_LEAVES_WITHIN)
            except subprocess.TimeoutExpired:
                self.kill()

    def told(self) -> list[dict[str, Any]]:
        """What the processes of this place said, the oldest first."""
        try:
            lines = (self.setup.folder / f"{self.name}.jsonl").read_text().splitlines()
        except FileNotFoundError:
            return []
        return [json.loads(line) for line in lines if line.endswith("}")]

    def recoveries(self) -> list[float]:
        """Seconds from each start of a process to its holding its states and taking events."""
        ready = [line["at"] for line in self.told() if line["what"] == "ready"]
        found = []
        for start, following in pairwise([*self.starts, float("inf")]):
            first = next((at for at in ready if start < at < following), None)
            if first is not None:
                found.append(first - start)
        return found
