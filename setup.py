"""Installs mmfmkt beside the mm* stack that is there, never in its place.

torch, mmengine, mmcv and mmdet are checked when a tool starts, not required
here: pip would otherwise replace a working stack that comes under other
distribution names. ``tools/quick_start.sh`` installs one where there is none.
"""

from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent


def requirements(name):
    """Read the lines of a file in requirements/."""
    path = HERE / 'requirements' / f'{name}.txt'
    return path.read_text(encoding='utf-8').split()


version = {}
exec((HERE / 'mmfmkt' / 'version.py').read_text(encoding='utf-8'), version)

setup(
    name='mmfmkt',
    version=version['__version__'],
    description='Knowledge transfer with flow matching for MMDetection',
    long_description=(HERE / 'README.md').read_text(encoding='utf-8'),
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    keywords='knowledge distillation, flow matching, object detection',
    python_requires='>=3.10',
    packages=find_packages(include=['mmfmkt', 'mmfmkt.*']),
    # Links into the tree: configs and tools travel with the package, as
    # those of every OpenMMLab library do.
    package_data={
        'mmfmkt': [
            'visualization/report/page.html',
            '.mim/model-index.yml',
            '.mim/configs/**/*.py',
            '.mim/configs/**/*.yml',
            '.mim/tools/*',
            '.mim/tools/analysis_tools/*',
            '.mim/tools/dev/benchmark/**/*.py',
            '.mim/tools/dev/benchmark/tables/*.yml',
        ]
    },
    install_requires=requirements('runtime'),
    extras_require={
        'likelihood': ['torchdiffeq'],
        'onnx': ['onnx', 'onnxruntime', 'onnxscript'],
        'tests': requirements('tests'),
    },
    entry_points={'console_scripts': ['mmfmkt = mmfmkt.__main__:main']},
    zip_safe=False,
)
