"""The error that a person can mend."""


class InputError(ValueError):
    """Something given is not what it should be.

    The message says what was expected, what was found and what to do, naming the file or
    parameter; the command line and notebooks show it without a traceback.
    """

    def _render_traceback_(self) -> list[str]:
        """What Jupyter and papermill show: the message alone."""
        return str(self).splitlines()
