"""Build of mmfmkt; pyproject.toml has the metadata.

torch, mmengine, mmcv, mmdet and mmpretrain are not required there: pip would
replace a working stack that comes under other distribution names. Tools check
them when they start; ``tools/quick_start.sh`` installs a stack.
"""

import os
import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
# What MMEngine and MIM look for in a package's folder .mim.
SHIPPED = ('configs', 'tools', 'model-index.yml')
# Maintainers' tools, and those that set up a clone.
LEFT_OUT = ('dev', 'quick_start.*', '__pycache__')


def make_mim(mim: Path, link: bool) -> None:
    """Make the folder ``.mim`` of the package.

    Args:
        mim (Path): The folder.
        link (bool): Whether to link to the clone, as an editable install
            does where the system allows links.
    """
    mim.mkdir(parents=True, exist_ok=True)
    for name in SHIPPED:
        source, target = ROOT / name, mim / name
        if target.is_symlink() or target.is_file():
            target.unlink()
        elif target.is_dir():
            shutil.rmtree(target)
        if link:
            try:
                relative = os.path.relpath(source, mim)
                target.symlink_to(relative, source.is_dir())
                continue
            except OSError:  # Windows without the privilege
                pass
        if source.is_dir():
            ignore = shutil.ignore_patterns(*LEFT_OUT)
            shutil.copytree(source, target, ignore=ignore)
        else:
            shutil.copy(source, target)


class BuildWithMim(build_py):
    """``build_py`` that also makes ``.mim``."""

    def run(self) -> None:
        """Build the package."""
        super().run()
        if self.editable_mode:
            make_mim(ROOT / 'mmfmkt' / '.mim', link=True)
        else:
            make_mim(Path(self.build_lib, 'mmfmkt', '.mim'), link=False)


if __name__ == '__main__':
    setup(cmdclass=dict(build_py=BuildWithMim))
