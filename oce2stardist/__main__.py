"""The program `oce2stardist`, also as `python -m oce2stardist`."""

import signal
import sys


def main() -> None:
    """Run a command; Ctrl-C ends it in one line also while the program starts or ends."""
    try:
        from oce2stardist.cli.main import main as run

        run()
    except KeyboardInterrupt:
        sys.stderr.write("Stopped.\n")
        sys.exit(130)
    finally:  # what Python still has to put away is over soon, and a traceback helps nobody
        signal.signal(signal.SIGINT, signal.SIG_IGN)


if __name__ == "__main__":
    main()
