"""What errors of libraries say, shortened for messages of ours."""

import pytest

from oce2stardist.errors import first_line, one_line


@pytest.mark.parametrize(
    ("error", "whole", "first"),
    [
        (ValueError("no such\n  file.\nTry again."), "no such file. Try again.", "no such"),
        (ValueError(" cut off."), "cut off.", "cut off"),
        (TimeoutError(), "TimeoutError", "TimeoutError"),
    ],
)
def test_an_error_is_said_on_one_line(error, whole, first):
    assert (one_line(error), first_line(error)) == (whole, first)
