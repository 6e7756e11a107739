"""What a user finds at the prompt: help with examples, completion, colours only where seen."""

import contextlib
import os
import pty
import re
import subprocess
import sys
import warnings

import click
import pytest
from click.shell_completion import BashComplete
from click.testing import CliRunner
from oce2stardist.cli.grouping import group_options
from oce2stardist.cli.main import main

from oce2stardist.runners import predict

SHELLS = {
    "bash": "complete -o nosort -F",
    "zsh": "#compdef oce2stardist",
    "fish": "complete --no-files --command oce2stardist",
}


def commands(group=main, path=()):
    for name in group.list_commands(click.Context(group)):
        command = group.get_command(click.Context(group), name)
        yield (*path, name), command
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))


COMMANDS = dict(commands())


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_help_fits_a_terminal_and_shows_an_example_of_the_command(path):
    text = CliRunner().invoke(main, [*path, "--help"], terminal_width=80).output
    assert max(map(len, text.splitlines())) <= 80
    examples = text.split("Example")[1].split("Options:")[0].splitlines()[1:]
    assert any(line.startswith(f"    oce2stardist {' '.join(path)}") for line in examples)


def test_options_that_few_need_stand_last_under_a_name_of_their_own():
    text = CliRunner().invoke(main, ["predict", "--help"], terminal_width=80).output
    parts = re.split(r"^(\w[^\n]*):\n", text, flags=re.MULTILINE)
    options = dict(zip(parts[1::2], parts[2::2], strict=True))
    assert list(options)[-4:] == [
        "Options", "How it runs", "What is printed", "Images larger than memory, and clusters",
    ]  # fmt: skip
    assert "--slurm" in parts[-1] and "--block " in parts[-1] and "--model" in options["Options"]


def test_no_option_is_lost_in_the_groups():
    for path, command in COMMANDS.items():
        if not isinstance(command, click.Group):
            ctx = click.Context(command, info_name=path[-1])
            grouped = [one for options in group_options(command, ctx).values() for one in options]
            wanted = [one for one in command.get_params(ctx) if isinstance(one, click.Option)]
            assert sorted(grouped, key=id) == sorted(wanted, key=id)


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_every_option_in_an_example_exists(path):
    command = COMMANDS[path]
    if isinstance(command, click.Group):
        return  # its examples are of the commands below, which have their own
    options = {name for parameter in command.params for name in parameter.opts}
    for line in command.help.split("\b")[-1].replace("\\\n", " ").splitlines():
        words = line.split()
        if words[: 1 + len(path)] == ["oce2stardist", *path]:
            assert {word for word in words if word.startswith("-")} <= options, line


# --- completion


@pytest.mark.parametrize("shell", SHELLS)
def test_the_completion_script_comes_out(shell):
    # click's script for bash asks bash for its version.
    env = {"_OCE2STARDIST_COMPLETE": f"{shell}_source"}
    result = CliRunner().invoke(main, prog_name="oce2stardist", env=env)
    assert result.exit_code == 0, result.output
    assert SHELLS[shell] in result.output


def complete(*words):
    """What a shell offers for the last word, and what it is told to complete by itself."""
    shell = BashComplete(main, {}, "oce2stardist", "_OCE2STARDIST_COMPLETE")
    items = shell.get_completions(list(words[:-1]), words[-1])
    return [item.value if item.type == "plain" else item.type for item in items]


def test_commands_options_and_devices_are_completed():
    assert complete("pre") == ["predict"]
    assert complete("experiment", "fra") == ["fractions"]
    assert "--annotations" in complete("finetune", "--a")
    assert complete("predict", "--device", "c") == ["cpu", "cuda"]


def test_presets_are_completed_and_files_where_none_fits():
    assert complete("pseudo", "--config", "") == ["fast", "paper", "quick"]
    assert complete("pseudo", "--config", "q") == ["quick"]
    assert complete("pseudo", "--config", "my") == ["file"]
    assert complete("experiment", "scales", "sc") == ["scales", "scales-quick"]
    assert complete("experiment", "fractions", "sc") == ["file"]


def takes_paths():
    """Arguments, and options whose placeholder is that of a path."""
    metavars = ("PATH", "RUN", "MODEL", "OUT", "FILE", "IMAGES", "[NAME=]PATH")
    for path, command in COMMANDS.items():
        for parameter in command.params:
            if parameter.metavar in metavars or isinstance(parameter, click.Argument):
                yield path, parameter


@pytest.mark.parametrize(("path", "parameter"), list(takes_paths()), ids=str)
def test_whatever_takes_a_path_completes_files_or_folders(path, parameter):
    items = parameter.shell_complete(click.Context(COMMANDS[path], info_name=path[-1]), "zzz")
    assert [item.type for item in items] in (["file"], ["dir"])


# --- colours

LINE = """
import warnings
from oce2stardist.cli.reporting import TerminalReporter
reporter = TerminalReporter(quiet=False)
reporter.warn("careful")
with reporter.task("Training", 2) as advance:
    advance(2, "loss 0.1")
"""


def printed_to_terminal(**environment):
    """What a program that says a warning writes to a terminal."""
    outer, inner = pty.openpty()
    plain = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "TERM")}
    subprocess.run(
        [sys.executable, "-c", LINE],
        env=plain | {"TERM": "xterm-256color", "COLUMNS": "100"} | environment,
        stderr=inner,
        check=True,
    )
    os.close(inner)
    written = b""
    with contextlib.suppress(OSError):  # how Linux says that the other side is closed
        while chunk := os.read(outer, 10_000):
            written += chunk
    os.close(outer)
    return written


def colours(written):
    """Numbers of the colours among the escape codes."""
    codes = re.findall(rb"\x1b\[([\d;]*)m", written)
    numbers = {int(number) for code in codes for number in code.split(b";") if number}
    return {number for number in numbers if 30 <= number <= 49 or number >= 90}


@pytest.mark.slow
def test_a_terminal_gets_colours_unless_no_color_is_set():
    coloured, plain = printed_to_terminal(), printed_to_terminal(NO_COLOR="1")
    assert b"careful" in coloured and b"careful" in plain
    assert colours(coloured) and not colours(plain)


@pytest.mark.slow
def test_a_file_gets_no_escape_codes():
    done = subprocess.run([sys.executable, "-c", LINE], capture_output=True, check=True)
    assert b"Warning: careful" in done.stderr
    assert b"\x1b" not in done.stderr


def test_python_warnings_are_one_line_and_quiet_ones_none(monkeypatch, tmp_path):
    def warn(*_, **__):
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.warn("a codec\nis missing", UserWarning, stacklevel=1)
        return predict.PredictedLabels()

    monkeypatch.setattr(predict, "predict_images", warn)
    arguments = ["predict", "images", "--model", "m", "-o", "out"]
    said = CliRunner().invoke(main, arguments).stderr
    assert said.startswith("Warning: a codec is missing (UserWarning in test_help.py, line ")
    assert len(said.splitlines()) == 1
    assert CliRunner().invoke(main, [*arguments, "-q"]).stderr == ""


def test_what_dask_tells_of_its_workers_is_not_printed(tmp_path):
    program = (
        "import logging\n"
        "from oce2stardist.cli.options import set_up_logging\n"
        "set_up_logging(verbose=True, quiet=False)\n"
        "dask = logging.getLogger('distributed.scheduler')\n"
        "dask.setLevel(logging.INFO)\n"
        "dask.info('Register worker addr')\n"
        "dask.warning('Worker is lost')\n"
        "logging.getLogger('oce2stardist.runners').debug('two blocks left')\n"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert ended.stderr.splitlines() == ["WARNING: Worker is lost", "DEBUG: two blocks left"]
