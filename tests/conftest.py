"""Shared fixtures and settings of pytest."""

import gc

import pytest
from fast_configs import cache_metafiles, skip_yapf

skip_yapf()

from mmengine.logging import MessageHub  # noqa: E402

from mmfmkt.utils.configs import link_shipped  # noqa: E402

cache_metafiles()


def pytest_configure():
    """Link configs and tools into the package, as an editable install."""
    link_shipped()


def pytest_collection_modifyitems(config, items):
    """Deselect slow tests of tests/dev unless it is named; sort by duration.

    The longest files start first, so that all workers end at the same time.
    """
    if not any('tests/dev' in x for x in config.args):
        deselected, selected = [], []
        for item in items:
            slow = item.get_closest_marker('slow')
            skipped = slow and 'tests/dev' in str(item.path)
            (deselected if skipped else selected).append(item)
        config.hook.pytest_deselected(items=deselected)
        items[:] = selected
    order = ('test_quick_start.py', 'test_tools', 'test_flows', '')
    items.sort(
        key=lambda item: next(
            rank for rank, part in enumerate(order) if part in str(item.path)
        )
    )


def exclude_from_collection():
    """Exclude the objects that exist from further garbage collections.

    MMEngine collects garbage whenever it builds a data set. Most objects are
    of imported libraries and of parsed metafiles.
    """
    gc.collect()
    gc.freeze()


def pytest_collection_finish():
    exclude_from_collection()


def pytest_runtest_logfinish():
    # Tests import more libraries. Their fixtures are gone by now.
    exclude_from_collection()


@pytest.fixture(scope='session')
def shapes(tmp_path_factory):
    """Return a drawn data set of 16 training and 8 validation images."""
    from mmfmkt.datasets import make_shapes

    return make_shapes(
        tmp_path_factory.mktemp('data') / 'shapes',
        num_train=16,
        num_val=8,
        image_size=(64, 64),
        seed=0,
    )


@pytest.fixture
def run_progress():
    """Set the iteration, which BatchSyncRandomResize reads."""
    hub = MessageHub.get_current_instance()
    hub.update_info('iter', 0)
    yield
    hub.runtime_info.pop('iter')
