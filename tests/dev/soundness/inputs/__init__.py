"""The inputs, by what is unusual about them."""

from typing import List

from dev.soundness.trial import Input

from . import configs, data_sets, networks, pictures, running, validation

MODULES = (data_sets, validation, pictures, networks, running, configs)


def all_inputs() -> List[Input]:
    """Return the corpus.

    Raises:
        ValueError: If two inputs have one name.
    """
    found = [item for module in MODULES for item in module.INPUTS]
    names = [item.name for item in found]
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise ValueError(f'There are two inputs {", ".join(sorted(twice))}.')
    return found
