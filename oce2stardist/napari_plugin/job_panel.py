"""Show a command at work: a bar, the time left, Stop, and what it said."""

from html import escape
from pathlib import Path

from qtpy.QtCore import Qt, QTimer
from qtpy.QtWidgets import (
    QHBoxLayout,
    QLabel,
    QPlainTextEdit,
    QProgressBar,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from oce2stardist.napari_plugin.job import Job, Outcome, Progress

_SECONDS_TO_SAVE = 20
_MOST_LINES = 2000


class JobPanel(QWidget):
    """Shows a `Job`, and lets the user stop it.

    `status` is the one line that says what happens or what went wrong.
    """

    def __init__(self, job: Job) -> None:
        super().__init__()
        self._job = job
        self._is_stopping = False
        self.status = QLabel(wordWrap=True, openExternalLinks=True)
        self.status.setTextFormat(Qt.TextFormat.RichText)
        self.bar = QProgressBar()
        tip = "What was done is kept; the same button goes on from there."
        self.stop_button = QPushButton("Stop", toolTip=tip)
        self.log = QPlainTextEdit(readOnly=True, maximumBlockCount=_MOST_LINES)
        self.log.setPlaceholderText("What the steps say comes here.")
        self.log.setFixedHeight(100)
        row = QHBoxLayout()
        row.addWidget(self.bar)
        row.addWidget(self.stop_button)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(row)
        layout.addWidget(self.status)
        layout.addWidget(self.log)
        self.stop_button.clicked.connect(self._stop)
        job.progressed.connect(self._show_progress)
        job.said.connect(self.log.appendPlainText)
        job.warned.connect(lambda line: self.log.appendPlainText(f"Warning: {line}"))
        job.ended.connect(self._show_end)
        self._show_idle()

    def tell(self, message: str, *, report: str | Path | None = None) -> None:
        """Show one line, with a link to a report if there is one."""
        self.status.setStyleSheet("")
        text = escape(message, quote=False)  # names of files and layers are no markup
        if report is not None:
            text += f' <a href="{Path(report).resolve().as_uri()}">Report</a>'
        self.status.setText(text)

    def refuse(self, message: str) -> None:
        """Show one line about what must be put right."""
        self.status.setStyleSheet("color: #ff7675; font-weight: bold")
        self.status.setText(escape(f"{message[0].upper()}{message[1:]}", quote=False))

    def show_start(self, title: str) -> None:
        """Show that a command was started."""
        self.tell(f"{title}: starting …")
        self.bar.setRange(0, 0)  # busy
        self.stop_button.setEnabled(True)

    def _show_progress(self, progress: Progress) -> None:
        self.bar.setTextVisible(True)
        self.bar.setRange(0, max(1, progress.total))
        self.bar.setValue(progress.done)
        if not self._is_stopping:
            self.tell(progress.in_words())

    def _show_end(self, outcome: Outcome) -> None:
        self._show_idle()
        if outcome.stopped:
            self.tell(outcome.message.replace("the same command", "the same button"))
        elif outcome.result is None:
            self.refuse(outcome.message)

    def _show_idle(self) -> None:
        self._is_stopping = False
        self.bar.setRange(0, 1)
        self.bar.setValue(0)
        self.bar.setTextVisible(False)
        self.stop_button.setText("Stop")
        self.stop_button.setEnabled(False)

    def _stop(self) -> None:
        if self._is_stopping:
            self._job.kill()
            return
        self._is_stopping = True
        self._job.stop()
        self.tell("Stopping: what was done is being saved …")
        self.stop_button.setEnabled(False)
        QTimer.singleShot(1000 * _SECONDS_TO_SAVE, self._offer_kill)

    def _offer_kill(self) -> None:
        """Let the user end a process that does not answer."""
        if self._is_stopping:
            self.stop_button.setText("End at once")
            self.stop_button.setEnabled(True)
