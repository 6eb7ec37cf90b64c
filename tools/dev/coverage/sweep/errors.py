"""What a check ends with when it does not come to a comparison."""

import os
import traceback

# A process says so when what comes then is a student under a distiller.
PLAIN_DONE = 'plain training is done'


class NotAStudentError(ValueError):
    """Says why a config's model cannot be a student."""


class CannotRunError(RuntimeError):
    """A config that does not train by itself; its cause says why."""


def one_line(error: BaseException) -> str:
    """The kind of an error, the beginning of what it says, and where."""
    said = ' '.join(str(error).split()).replace('|', '/')
    frames = traceback.extract_tb(error.__traceback__)
    where = f' ({os.path.basename(frames[-1].filename)}:{frames[-1].lineno})'
    return f'{type(error).__name__}: {said[:160]}{where if frames else ""}'
