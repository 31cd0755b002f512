"""Every error that medtl raises on purpose: what was found, where, and what to do.

The command line prints the message of any `MedtlError` as one line and exits with code 2.
"""

from pathlib import Path


class MedtlError(Exception):
    """Base of all expected errors. The message is written for the person at the keyboard."""


class ConfigError(MedtlError):
    """A setting that does not exist, or has a value that cannot be used."""


class ScanError(MedtlError):
    """A file that cannot be used as a scan.

    Args:
        code: one word for tables and filters, such as `truncated` or `not_an_image`.
        path: the file, as the user named it.
        message: what was found and what was expected.
    """

    def __init__(self, code: str, path: Path | str, message: str) -> None:
        super().__init__(f"{path}: {message}")
        self.code = code
        self.path = str(path)
        self.message = message

    def __reduce__(self) -> tuple[type["ScanError"], tuple[str, str, str]]:
        """So that it can come back from another process."""
        return type(self), (self.code, self.path, self.message)


class FetchError(MedtlError):
    """A public data set that could not be loaded."""


class DatasetError(MedtlError):
    """A dataset folder that is missing, damaged, of another format, or does not fit the request."""


class LabelError(MedtlError):
    """A labels file that cannot be joined to a dataset; names the row."""


class EncoderError(MedtlError):
    """An encoder that is unknown, damaged, or does not fit the data."""


class RunError(MedtlError):
    """A pretraining or fine-tuning run that cannot start, resume or go on."""


class BundleError(MedtlError):
    """A bundle folder that is missing a file, damaged, or of another format."""


class ReviewError(MedtlError):
    """A verdict that could not be stored, or a review store that cannot be read."""


class Stopped(Exception):  # noqa: N818 - not an error: the user asked for it
    """Ctrl-C or SIGTERM stopped long work; what was done is saved.

    Args:
        message: what was stopped and where it stands.
        again: what the same command needs in addition to go on, such as `--resume`; None where it cannot go on.
    """

    def __init__(self, message: str, *, again: tuple[str, ...] | None = None) -> None:
        super().__init__(message)
        self.again = again
