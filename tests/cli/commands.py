"""Running the command line as users do: processes, their output line by line, their exit codes.

Owns: the environment of such a process and small mob files. Must not: import `mob`: what is under
test is the command.
"""

from __future__ import annotations

import os
import queue
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

ROOT = Path(__file__).parents[2]

#: No process here takes a tenth of it; a hung one must not hang the tests.
PATIENCE_S = 60.0

#: What a lead and two workers with a child each look like; `%s` is the model's latency in seconds.
TEAM = """
[mob]
id = "team"
lead = "lead"
[models.main]
model = "sim:agent"
options = { latency_s = %s }
[profiles.lead]
model = "main"
tool_choice = ["ask_worker"]
[profiles.worker]
model = "main"
tool_choice = ["spawn_agent"]
subagents = { profile = "helper", max_depth = 1 }
[profiles.helper]
model = "main"
[members.lead]
profile = "lead"
[members.worker]
profile = "worker"
replicas = 2
[wiring]
edges = [["lead", "worker"]]
"""

#: One member that answers with the prompt.
ECHO = """
[mob]
id = "echo"
lead = "lead"
[models.main]
model = "sim:echo"
[profiles.lead]
model = "main"
[members.lead]
profile = "lead"
"""


def environment(**more: str) -> dict[str, str]:
    """The variables of a command: none of this machine's keys and settings."""
    kept = {key: os.environ[key] for key in ("PATH", "HOME", "LANG", "TMPDIR") if key in os.environ}
    return {**kept, "PYTHONPATH": str(ROOT), "MOB_FORBID_REAL_MODELS": "1", **more}


def mob(
    *arguments: str, cwd: Path, stdin: str = "", **env: str
) -> subprocess.CompletedProcess[str]:
    """Run ``mob ARGUMENTS`` to its end."""
    return subprocess.run(
        [sys.executable, "-m", "mob.cli", *arguments],
        cwd=cwd,
        env=environment(**env),
        input=stdin,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )


def refused(
    code: int, *words: str, done: subprocess.CompletedProcess[str]
) -> subprocess.CompletedProcess[str]:
    """Assert that `done` ended with `code` and one paragraph on stderr that has `words`."""
    assert done.returncode == code, (done.returncode, done.stderr)
    assert "Traceback" not in done.stderr
    errors = [line for line in done.stderr.splitlines() if line.startswith("mob: error: ")]
    assert len(errors) == 1, done.stderr
    for word in words:
        assert word in done.stderr, (word, done.stderr)
    return done


class Running:
    """A command under way. Its stderr is read by a thread, so that nobody has to wait blindly."""

    def __init__(self, *arguments: str, cwd: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "mob.cli", *arguments],
            cwd=cwd,
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.lines: list[str] = []
        self._queue: queue.Queue[str | None] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self._queue.put(line)
        self._queue.put(None)

    def wait_for(self, words: str) -> str:
        """The next line of stderr that contains `words`."""
        while True:
            line = self._queue.get(timeout=PATIENCE_S)
            assert line is not None, f"ended before {words!r} was said:\n{''.join(self.lines)}"
            self.lines.append(line)
            if words in line:
                return line

    def signal(self, number: int) -> None:
        """Send a signal."""
        self.process.send_signal(number)

    def end(self) -> tuple[int, str, str]:
        """Wait for the end; return exit code, stdout and all of stderr."""
        assert self.process.stdout is not None
        out = self.process.stdout.read()
        code = self.process.wait(PATIENCE_S)
        while (line := self._queue.get(timeout=PATIENCE_S)) is not None:
            self.lines.append(line)
        return code, out, "".join(self.lines)

    def __enter__(self) -> Running:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self._reader.join()
        for stream in (self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()


@contextmanager
def run_team(cwd: Path, *, latency_s: float, prompt: str = "hello") -> Iterator[Running]:
    """A `mob run` of `TEAM` under way, with plain lines on stderr and its state in ``.mob``."""
    (cwd / "mob.toml").write_text(TEAM % latency_s)
    with Running("run", "mob.toml", "--prompt", prompt, "--display", "plain", cwd=cwd) as running:
        yield running


def finish_team(cwd: Path, prompt: str = "hello") -> subprocess.CompletedProcess[str]:
    """The same command with a quick model, to its end. Models are no part of a mob's blueprint."""
    (cwd / "mob.toml").write_text(TEAM % 0.01)
    return mob("run", "mob.toml", "--prompt", prompt, "--display", "plain", cwd=cwd)
