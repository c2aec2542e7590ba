import pytest

from ich_ray.errors import first_line


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (ValueError("\n  one\ntwo"), "one"),
        (OSError(28, "No space left on device"), "[Errno 28] No space left on device"),
        (TimeoutError(), "TimeoutError"),
        (RuntimeError(" \n "), "RuntimeError"),
        ("one\ntwo", "one"),
        ("", ""),
    ],
)
def test_the_first_line_says_something_of_every_error(said: object, expected: str) -> None:
    assert first_line(said) == expected
