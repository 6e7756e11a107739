"""Keep what a run says."""

from oce2stardist.runs.progress import SilentReporter


class Listener(SilentReporter):
    def __init__(self):
        self.said, self.warned = [], []

    def say(self, message):
        self.said.append(message)

    def warn(self, message):
        self.warned.append(message)
