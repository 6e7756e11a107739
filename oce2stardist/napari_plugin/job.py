"""Run one command of `oce2stardist` in a process, and hear how far it is."""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from qtpy.QtCore import QObject, QProcess, QProcessEnvironment, Signal

STOPPED = 130
"""Exit code of a command after Ctrl-C."""

_PATIENCE = 15_000
"""Milliseconds that a process has to save what it did when napari closes."""


@dataclass(frozen=True)
class Progress:
    """How far a piece of work is."""

    task: str
    done: int
    total: int
    note: str  # such as the loss
    seconds_left: float | None

    def in_words(self) -> str:
        """Say it in one line."""
        parts = [f"{self.task}: {self.done} of {self.total}", self.note]
        if self.seconds_left is not None and self.done < self.total:
            seconds = self.seconds_left
            left = f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"
            parts.append(f"about {left} left")
        return ", ".join(filter(None, parts))


@dataclass(frozen=True)
class Outcome:
    """How a command ended."""

    result: dict[str, Any] | None = None  # what ``--json`` prints, if it came to its end
    stopped: bool = False  # by the user
    message: str = ""  # one line, if it came to no end: why


class Job(QObject):
    """Runs a command at a time; tells of it by signals."""

    progressed = Signal(object)  # Progress
    said = Signal(str)
    warned = Signal(str)
    ended = Signal(object)  # Outcome

    def __init__(self) -> None:
        super().__init__()
        self._process: QProcess | None = None
        self._unended_line = b""
        self._plain_lines: list[str] = []
        self._is_stopped = False

    @property
    def is_running(self) -> bool:
        """Whether a command is at work."""
        return self._process is not None

    def start(self, arguments: Sequence[str]) -> None:
        """Start ``oce2stardist ARGUMENTS``."""
        assert not self.is_running
        self._unended_line, self._plain_lines, self._is_stopped = b"", [], False
        process = QProcess(self)
        environment = QProcessEnvironment.systemEnvironment()
        environment.insert("OCE2STARDIST_PROGRESS", "json")
        environment.insert("PYTHONUTF8", "1")
        process.setProcessEnvironment(environment)
        process.setProgram(sys.executable)
        process.setArguments(["-m", "oce2stardist.napari_plugin.job_process", *arguments])
        process.readyReadStandardError.connect(self._hear)
        process.finished.connect(self._end)
        process.errorOccurred.connect(self._fail)
        self._process = process
        process.start()

    def stop(self) -> None:
        """Ask the command to save what it did and to end, as Ctrl-C does."""
        if self._process is not None:
            self._is_stopped = True
            self._process.closeWriteChannel()

    def kill(self) -> None:
        """End the command at once; what it saved last is on disk."""
        if self._process is not None:
            self._is_stopped = True
            self._process.kill()

    def close(self) -> None:
        """Stop the command and wait until it has ended."""
        if self._process is None:
            return
        process = self._process
        self.blockSignals(True)  # nobody is left to hear
        self.stop()
        if not process.waitForFinished(_PATIENCE):
            process.kill()
            process.waitForFinished()
        self._process = None

    def _hear(self) -> None:
        assert self._process is not None
        self._listen(bytes(self._process.readAllStandardError()))

    def _listen(self, chunk: bytes) -> None:
        *lines, self._unended_line = (self._unended_line + chunk).split(b"\n")
        for line in lines:
            self._pass_on(line)

    def _pass_on(self, raw_line: bytes) -> None:
        line = raw_line.decode("utf-8", "replace").rstrip()
        try:
            content = json.loads(line)
        except ValueError:
            content = None
        if not isinstance(content, dict):
            if line:
                self._plain_lines.append(line)
                self.said.emit(line)
        elif "task" in content:
            self.progressed.emit(Progress(**content))
        elif "warn" in content:
            self.warned.emit(content["warn"])
        elif "say" in content:
            self.said.emit(content["say"])

    def _end(self, code: int, status: object) -> None:
        assert self._process is not None
        self._hear()
        self._pass_on(self._unended_line)
        printed = bytes(self._process.readAllStandardOutput()).decode("utf-8", "replace")
        self._process.deleteLater()
        self._process = None
        self.ended.emit(_read_outcome(code, printed, self._plain_lines, self._is_stopped))

    def _fail(self, error: object) -> None:
        if error == QProcess.ProcessError.FailedToStart and self._process is not None:
            self._process.deleteLater()
            self._process = None
            self.ended.emit(Outcome(message=f"{sys.executable} can't be started."))


def _read_outcome(code: int, printed: str, lines: list[str], is_stopped: bool) -> Outcome:
    if code == 0:
        (*_, result) = (line for line in printed.splitlines() if line.startswith("{"))
        return Outcome(result=json.loads(result))
    if is_stopped or code == STOPPED:
        is_told = code == STOPPED and lines and lines[-1] != "Stopped."
        told = lines[-1] if is_told else "Stopped; the same command starts this step again."
        return Outcome(stopped=True, message=told)
    errors = [line for line in lines if line.startswith("Error: ")]
    if errors:
        return Outcome(message=errors[-1].removeprefix("Error: "))
    last = lines[-1] if lines else "no message"
    return Outcome(message=f"the command broke off with exit code {code}: {last}")
