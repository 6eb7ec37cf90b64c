"""Errors that end a check before its comparison."""

import os
import traceback

# Line of the log after training without a distiller.
BASELINE_DONE = 'training without a distiller is done'


class NotAStudentError(ValueError):
    """The model of a config cannot be a student."""


class CannotRunError(RuntimeError):
    """The config does not train without a distiller; see its cause."""


def one_line(error: BaseException) -> str:
    """Return type, shortened message and location of an error."""
    message = ' '.join(str(error).split()).replace('|', '/')
    frames = traceback.extract_tb(error.__traceback__)
    where = f' ({os.path.basename(frames[-1].filename)}:{frames[-1].lineno})'
    return f'{type(error).__name__}: {message[:160]}{where if frames else ""}'
