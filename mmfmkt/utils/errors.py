"""Error for a wrong setting in a config."""


class ConfigError(ValueError):
    """Invalid setting; the message names the config key to change.

    The command-line tools print the message without a traceback.
    """
