"""One command of `oce2stardist` at work in a process, seen from napari."""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from qtpy.QtCore import QObject, QProcess, QProcessEnvironment, Signal

STOPPED = 130
"""Exit code of a command after Ctrl-C."""

_PATIENCE = 15_000
"""Milliseconds that a process has to save what it did when napari closes."""


@dataclass(frozen=True)
class Progress:
    """How far a piece of work is.

    Attributes
    ----------
    task : str
    done, total : int
    note : str
        Such as the loss.
    seconds_left : float or None
    """

    task: str
    done: int
    total: int
    note: str
    seconds_left: float | None

    def in_words(self) -> str:
        """Say it in one line."""
        parts = [f"{self.task}: {self.done} of {self.total}", self.note]
        if self.seconds_left is not None and self.done < self.total:
            parts.append(f"about {_say_time(self.seconds_left)} left")
        return ", ".join(filter(None, parts))


@dataclass(frozen=True)
class Outcome:
    """How a command ended.

    Attributes
    ----------
    result : dict or None
        What ``--json`` prints, if it came to its end.
    stopped : bool
        Whether the user stopped it.
    message : str
        One line, if it came to no end: why.
    """

    result: dict[str, Any] | None = None
    stopped: bool = False
    message: str = ""


@dataclass
class _Said:
    """Lines of standard error, as they come in pieces."""

    rest: bytes = b""
    plain: list[str] = field(default_factory=list)

    def add(self, chunk: bytes) -> list[str]:
        *lines, self.rest = (self.rest + chunk).split(b"\n")
        return [line.decode("utf-8", "replace").rstrip() for line in lines]


class Job(QObject):
    """Runs a command at a time; tells of it by signals.

    Signals
    -------
    progressed : Progress
    said, warned : str
    ended : Outcome
    """

    progressed = Signal(object)
    said = Signal(str)
    warned = Signal(str)
    ended = Signal(object)

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._process: QProcess | None = None
        self._said = _Said()
        self._is_stopped = False

    @property
    def is_running(self) -> bool:
        """Whether a command is at work."""
        return self._process is not None

    def start(self, arguments: Sequence[str]) -> None:
        """Start ``oce2stardist ARGUMENTS``."""
        assert not self.is_running
        self._said, self._is_stopped = _Said(), False
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
        for line in self._said.add(chunk):
            self._pass_on(line)

    def _pass_on(self, line: str) -> None:
        try:
            content = json.loads(line)
        except ValueError:
            content = None
        if not isinstance(content, dict):
            if line:
                self._said.plain.append(line)
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
        self._pass_on(self._said.rest.decode("utf-8", "replace").rstrip())
        printed = bytes(self._process.readAllStandardOutput()).decode("utf-8", "replace")
        self._process.deleteLater()
        self._process = None
        self.ended.emit(_read_outcome(code, printed, self._said.plain, self._is_stopped))

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


def _say_time(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"
