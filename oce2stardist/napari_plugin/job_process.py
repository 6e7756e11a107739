"""Run a command for napari as at the prompt, but let the end of its input stop it.

``python -m oce2stardist.napari_plugin.job_process ARGUMENTS`` is ``oce2stardist ARGUMENTS``, but
the end of standard input is Ctrl-C to it. That is the same on all systems, and also comes when
napari dies: no training is left running that nobody sees.
"""

import os
import signal
import sys
import threading
from _thread import interrupt_main


def main() -> None:
    """Run the command line until it ends or standard input does."""
    # A program in the background of a shell is deaf to Ctrl-C, and so are those it starts.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    threading.Thread(target=_wait_for_stop, daemon=True).start()
    from oce2stardist.cli.main import main as run

    run()


def _wait_for_stop() -> None:
    # Not sys.stdin, which a daemon thread must not hold when Python ends.
    while os.read(0, 1024):
        pass
    if hasattr(signal, "pthread_kill"):  # also ends a wait of the main thread
        main_thread = threading.main_thread().ident
        assert main_thread is not None
        signal.pthread_kill(main_thread, signal.SIGINT)
    else:
        interrupt_main(signal.SIGINT)


if __name__ == "__main__":
    sys.exit(main())  # type: ignore[func-returns-value]  # click ends it itself
