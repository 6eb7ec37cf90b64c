"""Docstring examples run and print the shown values."""

import doctest
import importlib
import inspect
import pkgutil

import pytest
import torch

from mmfmkt.models import flows, losses

SCOPE = {
    'torch': torch,
    **{
        name: getattr(room, name)
        for room in (flows, losses)
        for name in room.__all__
    },
}
MODULES = [
    name
    for room in (flows, losses)
    for _, name, _ in pkgutil.walk_packages(room.__path__, f'{room.__name__}.')
]
CLASSES = [
    x
    for x in SCOPE.values()
    if inspect.isclass(x)
    and not inspect.isabstract(x)
    and not issubclass(x, tuple)
]


@pytest.mark.parametrize('name', MODULES)
def test_docstring_examples_print_the_shown_values(name):
    torch.manual_seed(0)
    module = importlib.import_module(name)
    finder = doctest.DocTestFinder(exclude_empty=True)
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
    for example in finder.find(module, globs=dict(SCOPE)):
        runner.run(example)
    assert not runner.failures


@pytest.mark.parametrize('kind', CLASSES, ids=lambda x: x.__name__)
def test_every_public_class_shows_how_it_is_used(kind):
    examples = doctest.DocTestParser().get_examples(kind.__doc__)
    assert any(kind.__name__ in x.source for x in examples)
