"""The one error of the test bed."""


class TestbedError(Exception):
    """Something the test bed needs is missing or did not come up; the message says what to do."""

    __test__ = False  # its name begins with "Test", and pytest would collect it
