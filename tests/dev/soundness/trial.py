"""One input: what it is, how it is written into a folder and tried."""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Callable, Dict, NamedTuple, Optional, Sequence, Tuple

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
COLUMNS = ('plain', 'train', 'distil')
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
KINDS = dict(
    retinanet=('detector', 'fmkt_fpn'),
    mask_rcnn=('detector', 'fmkt_fpn'),
    resnet=('classifier', 'fmkt_logits'),
)


class Command(NamedTuple):
    """Something to run, and how it is to end.

    Attributes:
        parts (tuple[str]): The script and its arguments; ``{name}`` is one
            of `places`.
        code (int): The exit code that is right.
        says (str): Pattern of what the output, or of a refusal its sentence,
            must contain.
        makes (str): Pattern of a file that must be there afterwards.
        env (dict): What the environment has beside.
    """

    parts: Tuple[str, ...]
    code: int = 0
    says: str = ''
    makes: str = ''
    env: Dict[str, str] = {}


def command(*parts: str, **options: Any) -> Command:
    """A command by its parts."""
    return Command(parts, **options)


PLAIN = command(
    f'{HERE}/plain.py', '{plain_config}', '{plain}', makes='{plain}/*.pth'
)
TRAIN = command(
    '{tools}/train.py',
    '{config}',
    '--work-dir',
    '{train}',
    makes='{train}/*.pth',
)
DISTIL = command(
    '{tools}/train.py',
    '{distil}',
    '--work-dir',
    '{distilled}',
    makes='{distilled}/*.pth',
)


@dataclass
class Input:
    """A config that MMEngine trains, and that is out of the ordinary.

    Attributes:
        name (str): What it is called.
        what (str): What is unusual about it.
        base (str): The config in bases/ that it changes.
        lines (str): What it changes.
        prepare (Callable, optional): Changes the data, given their folder.
        files (dict): Further files by name.
        variant (str): Of the distillation.
        teacher (str): The teacher's whole config, where it is another.
        distil_lines (str): What the distillation changes.
        distillation (str): The whole config of the distillation, where it
            is another.
        plain, train, distil (Sequence[Command]): What is run beside, in a
            column, or in its place, where ``alone`` names the column.
        before (Sequence[Command]): What is run before all.
        alone (Sequence[str]): Columns without their usual command.
        check (Callable, optional): What is wrong with the folder afterwards.
        needs (Sequence[str]): Packages without which it is not tried.
        name_of_config (str): The file name.
        presets (bool): Whether it inherits configs of mmfmkt, as
            ``{presets}``, of which the plain run has copies.
    """

    name: str
    what: str
    base: str
    lines: str = ''
    prepare: Optional[Callable[[Path], Any]] = None
    files: Dict[str, str] = field(default_factory=dict)
    variant: str = 'direct'
    teacher: str = ''
    distil_lines: str = ''
    distillation: str = ''
    plain: Sequence[Command] = ()
    train: Sequence[Command] = ()
    distil: Sequence[Command] = ()
    before: Sequence[Command] = ()
    alone: Sequence[str] = ()
    check: Optional[Callable[[Path], str]] = None
    needs: Sequence[str] = ()
    name_of_config: str = 'config.py'
    presets: bool = False


def places(item: Input, folder: Path, root: Path) -> Dict[str, str]:
    """Return what ``{name}`` stands for in configs and commands."""
    found = dict(
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
        found['plain_config'] = folder / 'plain_config.py'
    for library in ('mmdet', 'mmpretrain'):
        spec = find_spec(library)
        if spec:
            package = Path(spec.submodule_search_locations[0])
            found[library] = package / '.mim' / 'tools'
    for column in ('plain', 'train', 'distilled'):
        pointer = folder / column / 'last_checkpoint'
        if pointer.is_file():
            found[f'{column}_pth'] = pointer.read_text().strip()
        logs = sorted((folder / column).glob('*/vis_data/scalars.json'))
        if logs:
            found[f'{column}_log'] = logs[-1]
    return {name: str(x) for name, x in found.items()}


def filled(text: str, found: Dict[str, str]) -> str:
    """Put places into a text."""
    for name, place in found.items():
        text = text.replace('{' + name + '}', place)
    return text


def write(item: Input, folder: Path, root: Path) -> None:
    """Write the configs and the data of an input into a folder."""
    from dev.soundness.data import make_coco, make_folders

    found = places(item, folder, root)
    kind, preset = KINDS[item.base]
    make = make_coco if kind == 'detector' else make_folders
    make(folder / 'data')
    if item.prepare is not None:
        item.prepare(folder / 'data')

    base = (HERE / 'bases' / f'{item.base}.py').read_text()
    (folder / 'base.py').write_text(filled(base, found))
    files = dict(item.files)
    head = '' if '_base_ = ' in item.lines else "_base_ = './base.py'\n"
    files.setdefault(item.name_of_config, head + item.lines)
    if item.presets:
        shutil.copytree(root / 'configs', folder / 'presets')
        files['plain_config.py'] = item.lines.replace(
            '{presets}', './presets/'
        )
    files.setdefault('teacher.py', item.teacher or TEACHERS[kind])
    distillation = item.distillation
    if not distillation:
        distillation = filled(
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
        path.write_text(filled(text, found))


class Server:
    """A process with the libraries imported, which forks what is asked for.

    Args:
        root (Path): The clone whose tools are used.
        limit (float): Seconds after which a command is killed.
    """

    def __init__(self, root: Path = ROOT, limit: float = 60) -> None:
        self.root, self.limit = root, limit
        self._process: Optional[subprocess.Popen] = None

    def run(self, asked: Command, folder: Path, log: Path) -> int:
        """Run a command in a folder; its exit code, -9 if it was killed."""
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
        question = dict(
            command=list(asked.parts),
            cwd=str(folder),
            env=dict(
                self._environment(folder),
                XDG_CACHE_HOME=str(folder / 'cache'),
                **asked.env,
            ),
            out=str(log),
            limit=self.limit,
        )
        print(json.dumps(question), file=self._process.stdin)
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
    """Return what a tool ended with."""
    lines = log.read_text(errors='replace').strip().splitlines()
    errors = [x for x in lines if x.startswith('error: ')]
    return (errors or lines or [''])[-1].strip()


def run_command(
    server: Server, asked: Command, item: Input, folder: Path, log: Path
) -> str:
    """Run a command; what is wrong with how it ended, or nothing."""
    found = places(item, folder, server.root)
    asked = asked._replace(parts=tuple(filled(x, found) for x in asked.parts))
    code = server.run(asked, folder, log)
    what = Path(asked.parts[0]).name
    if code == -9:
        return f'{what}: killed after {server.limit:g} s'
    if code != asked.code:
        return f'{what}: code {code}: {last_line(log)}'
    text = last_line(log) if code else log.read_text(errors='replace')
    if not re.search(asked.says, text):
        return f'{what}: does not say {asked.says!r}: {last_line(log)}'
    pattern = Path(filled(asked.makes, found))
    if asked.makes and not list(pattern.parent.glob(pattern.name)):
        return f'{what}: {pattern.name} is not there'
    return ''


def commands_of(item: Input, column: str) -> Sequence[Command]:
    """Return what is run in a column."""
    usual = dict(plain=PLAIN, train=TRAIN, distil=DISTIL)[column]
    first = () if column in item.alone else (usual,)
    return (*first, *getattr(item, column))


def try_input(item: Input, server: Server, home: Path) -> Dict[str, Any]:
    """Try an input: plain, by our tools, and as a student.

    Args:
        item (Input): The input.
        server (Server): Runs the commands.
        home (Path): Where its folder is made.

    Returns:
        dict: ``name``, ``what``, and for each column what is wrong, ``''``
        where nothing is, and its seconds; ``skipped`` where it is not tried.
    """
    row: Dict[str, Any] = dict(name=item.name, what=item.what, seconds={})
    missing = [x for x in item.needs if find_spec(x) is None]
    if missing:
        return dict(row, skipped=f'needs {", ".join(missing)}')
    folder = home / item.name
    folder.mkdir(parents=True)
    write(item, folder, server.root)
    for index, asked in enumerate(item.before):
        log = folder / f'before_{index}.log'
        if fault := run_command(server, asked, item, folder, log):
            raise RuntimeError(f'{item.name}: {fault}')
    for column in COLUMNS:
        began = time.monotonic()
        row[column] = ''
        for index, asked in enumerate(commands_of(item, column)):
            log = folder / f'{column}_{index}.log'
            row[column] = run_command(server, asked, item, folder, log)
            if row[column]:
                break
        row['seconds'][column] = round(time.monotonic() - began, 1)
    if item.check is not None and not row['distil']:
        row['distil'] = item.check(folder)
    return row


def try_once(item: Input, server: Server) -> Dict[str, Any]:
    """Try an input in a folder that is removed afterwards."""
    with tempfile.TemporaryDirectory() as home:
        return try_input(item, server, Path(home))
