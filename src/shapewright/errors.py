"""The exceptions that the command line prints without a traceback."""


class UserError(Exception):
    """Report a problem that the person running the program can mend.

    Args:
        message: One sentence with the file, the offending value and what was expected.
        hint: One sentence that names the next step.
    """

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n{self.hint}" if self.hint else self.message


class TrainingDiverged(UserError):
    """Report that losses or gradients stayed non-finite for too many steps in a row."""
