"""Inputs: configs with data, and the commands that train and distill them."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Callable, Dict, NamedTuple, Optional, Sequence, Tuple

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
# MMEngine alone, tools/train.py on the same config, and a distillation of it.
COLUMNS = ('plain', 'train', 'distil')
# Packages with a replacement in stand_ins/.
STAND_INS = ('timm', 'lvis')
TEACHERS = dict(
    detector="""
_base_ = './config.py'
model = dict(
    backbone=dict(base_channels=16, stem_channels=16),
    neck=dict(in_channels=[16, 32, 64, 128]),
)
""",
    classifier="""
_base_ = './config.py'
model = dict(
    backbone=dict(base_channels=8, stem_channels=8),
    head=dict(in_channels=64),
)
""",
)
# A wider teacher for students that change the classifier.
CLASSIFIER_TEACHER = TEACHERS['classifier'].replace('config.py', 'base.py')
DISTILLATION = """
_base_ = ['./{name}', 'mmfmkt::_base_/{preset}.py']
model = dict(
    _base_.distiller,
    _delete_=True,
    variant='{variant}',
    student=_base_.model,
    teacher=dict(config='{teacher}', checkpoint=None),
)
model['flow'] = dict(model['flow'], num_steps=2, inference_steps=2)
"""
# Kind of network and preset of the distillation, by base config.
KINDS = dict(
    retinanet=('detector', 'fmkt_fpn'),
    mask_rcnn=('detector', 'fmkt_fpn'),
    resnet=('classifier', 'fmkt_logits'),
)


class Command(NamedTuple):
    """Command and its expected result.

    Attributes:
        parts (tuple[str]): The script and its arguments; each ``{name}`` is
            replaced by a value of `placeholders`.
        code (int): Expected exit code.
        output_pattern (str): Regular expression that the output must match,
            or the error message if the exit code is not 0.
        written_file (str): Glob pattern of a file that the command must write.
        env (dict): Additional environment variables.
    """

    parts: Tuple[str, ...]
    code: int = 0
    output_pattern: str = ''
    written_file: str = ''
    env: Dict[str, str] = {}


def command(*parts: str, **options: Any) -> Command:
    """Return a command from its parts."""
    return Command(parts, **options)


PLAIN = command(
    f'{HERE}/plain.py',
    '{plain_config}',
    '{plain}',
    written_file='{plain}/*.pth',
)
TRAIN = command(
    '{tools}/train.py',
    '{config}',
    '--work-dir',
    '{train}',
    written_file='{train}/*.pth',
)
DISTIL = command(
    '{tools}/train.py',
    '{distil}',
    '--work-dir',
    '{distilled}',
    written_file='{distilled}/*.pth',
)


@dataclass
class Input:
    """Unusual config that MMEngine trains.

    Attributes:
        name (str): Name of the input.
        description (str): The unusual property of the config or data.
        base (str): Config in bases/ that the input inherits.
        config_text (str): Text of the config after ``_base_``.
        prepare (Callable, optional): Function that changes the data set in a
            folder.
        files (dict): Texts of further files by name.
        variant (str): Variant of the distillation.
        teacher (str): Text of the teacher's config, instead of the default.
        distil_lines (str): Lines to add to the config of the distillation.
        distillation (str): Text of the config of the distillation, instead of
            the default.
        plain, train, distil (Sequence[Command]): Further commands of the
            column: MMEngine alone, tools/train.py, distillation.
        setup_commands (Sequence[Command]): Commands to run first.
        without_default (Sequence[str]): Columns without their default
            command.
        check (Callable, optional): Function that checks the folder afterwards;
            returns an error message, or ``''``.
        required_packages (Sequence[str]): Packages without which the input is
            skipped.
        name_of_config (str): File name of the config.
        presets (bool): Whether the config inherits configs of mmfmkt, by
            ``{presets}``; the plain run uses copies of them.
    """

    name: str
    description: str
    base: str
    config_text: str = ''
    prepare: Optional[Callable[[Path], Any]] = None
    files: Dict[str, str] = field(default_factory=dict)
    variant: str = 'direct'
    teacher: str = ''
    distil_lines: str = ''
    distillation: str = ''
    plain: Sequence[Command] = ()
    train: Sequence[Command] = ()
    distil: Sequence[Command] = ()
    setup_commands: Sequence[Command] = ()
    without_default: Sequence[str] = ()
    check: Optional[Callable[[Path], str]] = None
    required_packages: Sequence[str] = ()
    name_of_config: str = 'config.py'
    presets: bool = False


def placeholders(item: Input, folder: Path, root: Path) -> Dict[str, str]:
    """Return the replacements of ``{name}`` in configs and commands."""
    values = dict(
        folder=folder,
        data=folder / 'data',
        config=folder / item.name_of_config,
        plain_config=folder / item.name_of_config,
        teacher=folder / 'teacher.py',
        distil=folder / 'distil.py',
        plain=folder / 'plain',
        train=folder / 'train',
        distilled=folder / 'distilled',
        here=HERE,
        tools=root / 'tools',
        presets='mmfmkt::',
    )
    if item.presets:
        values['plain_config'] = folder / 'plain_config.py'
    for library in ('mmdet', 'mmpretrain'):
        spec = find_spec(library)
        if spec:
            package = Path(spec.submodule_search_locations[0])
            values[library] = package / '.mim' / 'tools'
    for column in ('plain', 'train', 'distilled'):
        pointer = folder / column / 'last_checkpoint'
        if pointer.is_file():
            values[f'{column}_pth'] = pointer.read_text().strip()
        logs = sorted((folder / column).glob('*/vis_data/scalars.json'))
        if logs:
            values[f'{column}_log'] = logs[-1]
    return {name: str(x) for name, x in values.items()}


def fill(text: str, values: Dict[str, str]) -> str:
    """Replace each ``{name}`` in a text by its value."""
    for name, value in values.items():
        text = text.replace('{' + name + '}', value)
    return text


def write(item: Input, folder: Path, root: Path) -> None:
    """Write configs and data of an input to a folder."""
    from dev.soundness.data import make_coco, make_folders

    values = placeholders(item, folder, root)
    kind, preset = KINDS[item.base]
    make = make_coco if kind == 'detector' else make_folders
    make(folder / 'data')
    if item.prepare is not None:
        item.prepare(folder / 'data')

    base = (HERE / 'bases' / f'{item.base}.py').read_text()
    (folder / 'base.py').write_text(fill(base, values))
    files = dict(item.files)
    head = '' if '_base_ = ' in item.config_text else "_base_ = './base.py'\n"
    files.setdefault(item.name_of_config, head + item.config_text)
    if item.presets:
        shutil.copytree(root / 'configs', folder / 'presets')
        files['plain_config.py'] = item.config_text.replace(
            '{presets}', './presets/'
        )
    files.setdefault('teacher.py', item.teacher or TEACHERS[kind])
    distillation = item.distillation
    if not distillation:
        distillation = fill(
            DISTILLATION,
            dict(
                name=item.name_of_config, preset=preset, variant=item.variant
            ),
        )
        if kind == 'detector':
            distillation += "model['levels'] = (0, 1, 2)\n"
    files.setdefault('distil.py', distillation + item.distil_lines)
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(fill(text, values))


class Server:
    """Client of a process that has imported the libraries and forks commands.

    Args:
        root (Path): Clone of the repository whose tools are used.
        limit (float): Time limit of a command in seconds.
    """

    def __init__(self, root: Path = ROOT, limit: float = 60) -> None:
        self.root, self.limit = root, limit
        self._process: Optional[subprocess.Popen] = None

    def run(self, command: Command, folder: Path, log: Path) -> int:
        """Run a command in a folder; return its exit code, -9 if killed."""
        if self._process is None or self._process.poll() is not None:
            self._process = subprocess.Popen(
                [sys.executable, HERE / 'server.py'],
                env=self._environment(HERE),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                bufsize=1,
            )
        request = dict(
            command=list(command.parts),
            cwd=str(folder),
            env=dict(
                self._environment(folder),
                XDG_CACHE_HOME=str(folder / 'cache'),
                **command.env,
            ),
            out=str(log),
            limit=self.limit,
        )
        print(json.dumps(request), file=self._process.stdin)
        return int(self._process.stdout.readline())

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.stdin.close()
            self._process.wait()
            self._process = None

    def _environment(self, folder: Path) -> Dict[str, str]:
        path = [str(self.root), str(folder), os.environ.get('PYTHONPATH', '')]
        path += [
            str(HERE / 'stand_ins' / name)
            for name in STAND_INS
            if find_spec(name) is None
        ]
        return dict(
            os.environ,
            CUDA_VISIBLE_DEVICES='',
            OMP_NUM_THREADS='1',
            PYTHONWARNINGS='ignore',
            PYTHONPATH=os.pathsep.join(path),
        )


def last_line(log: Path) -> str:
    """Return the error message of a tool, or the last line of its log."""
    lines = log.read_text(errors='replace').strip().splitlines()
    errors = [x for x in lines if x.startswith('error: ')]
    return (errors or lines or [''])[-1].strip()


def run_command(
    server: Server, command: Command, item: Input, folder: Path, log: Path
) -> str:
    """Run a command; return an error message, or ``''``."""
    values = placeholders(item, folder, server.root)
    parts = tuple(fill(x, values) for x in command.parts)
    code = server.run(command._replace(parts=parts), folder, log)
    script = Path(parts[0]).name
    if code == -9:
        return f'{script}: killed after {server.limit:g} s'
    if code != command.code:
        return f'{script}: code {code}: {last_line(log)}'
    text = last_line(log) if code else log.read_text(errors='replace')
    if not re.search(command.output_pattern, text):
        return (
            f'{script}: {command.output_pattern!r} is not in: {last_line(log)}'
        )
    pattern = Path(fill(command.written_file, values))
    if command.written_file and not list(pattern.parent.glob(pattern.name)):
        return f'{script}: {pattern.name} was not written'
    return ''


def commands_of(item: Input, column: str) -> Sequence[Command]:
    """Return the commands of a column."""
    default = dict(plain=PLAIN, train=TRAIN, distil=DISTIL)[column]
    first = () if column in item.without_default else (default,)
    return (*first, *getattr(item, column))


def try_input(item: Input, server: Server, home: Path) -> Dict[str, Any]:
    """Train an input with MMEngine, with mmfmkt's tools, and as a student.

    Args:
        item (Input): The input.
        server (Server): Server that runs the commands.
        home (Path): Folder in which the folder of the input is created.

    Returns:
        dict: ``name``, ``description``, ``seconds`` by column, and for each
        column an error message or ``''``; ``skipped`` if a package is
        missing.
    """
    row: Dict[str, Any] = dict(
        name=item.name, description=item.description, seconds={}
    )
    missing = [x for x in item.required_packages if find_spec(x) is None]
    if missing:
        return dict(row, skipped=f'needs {", ".join(missing)}')
    folder = home / item.name
    folder.mkdir(parents=True)
    write(item, folder, server.root)
    for index, command in enumerate(item.setup_commands):
        log = folder / f'before_{index}.log'
        if error := run_command(server, command, item, folder, log):
            raise RuntimeError(f'{item.name}: {error}')
    for column in COLUMNS:
        start = time.monotonic()
        row[column] = ''
        for index, command in enumerate(commands_of(item, column)):
            log = folder / f'{column}_{index}.log'
            row[column] = run_command(server, command, item, folder, log)
            if row[column]:
                break
        row['seconds'][column] = round(time.monotonic() - start, 1)
    if item.check is not None and not row['distil']:
        row['distil'] = item.check(folder)
    return row
