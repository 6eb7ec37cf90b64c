"""All inputs of the check, by topic."""

from typing import List

from dev.soundness.trial import Input

from . import configs, data_sets, networks, pictures, running, validation

MODULES = (data_sets, validation, pictures, networks, running, configs)


def all_inputs() -> List[Input]:
    """Return all inputs.

    Raises:
        ValueError: If two inputs have the same name.
    """
    found = [item for module in MODULES for item in module.INPUTS]
    names = [item.name for item in found]
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise ValueError(f'Names of two inputs: {", ".join(sorted(twice))}.')
    return found
