"""The error for what a user can mend in a config."""


class ConfigError(ValueError):
    """A setting does not fit: one sentence that names the key to change.

    The tools print the sentence alone, without a traceback.
    """
