"""The console command: help, doctor, configs and distill."""

import sys
from importlib import import_module

import pytest
from helpers import ROOT, run
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope

from mmfmkt.cli import main, train
from mmfmkt.cli.configs import find_config
from mmfmkt.cli.options import set_dataloaders
from mmfmkt.cli.test import use_tta
from mmfmkt.utils import ConfigError
from mmfmkt.utils.configs import SHIPPED, shipped_models
from mmfmkt.utils.stack import installed_version

pytest.importorskip('mmdet')
COMMANDS = (
    'train',
    'test',
    'distill',
    'compare',
    'export',
    'onnx',
    'report',
    'configs',
)


def mmfmkt(*options, fails=False, cwd=ROOT):
    return run(
        *('-m', 'mmfmkt', *options),
        fails=fails,
        cwd=cwd,
        fresh='doctor' in options,
        COLUMNS=80,
    )


def test_the_help_names_all_commands_and_each_has_its_own():
    output = mmfmkt('--help')
    assert all(f'\n  {name} ' in output for name in (*COMMANDS, 'doctor'))
    output = run('tools/train.py', '--help')
    assert 'usage: python tools/train.py' in output
    assert 'python tools/train.py CONFIG --resume' in output


def test_custom_imports_find_modules_in_the_current_folder(
    tmp_path, monkeypatch
):
    (tmp_path / 'my_module.py').write_text("open('imported', 'w').close()")
    (tmp_path / 'config.py').write_text(
        "custom_imports = dict(imports=['my_module'])"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, 'path', [x for x in sys.path if x])
    with pytest.raises(SystemExit):  # the config has no model
        main(['train', 'config.py', '--work-dir', 'out'])
    assert (tmp_path / 'imported').exists()


@pytest.mark.slow
def test_the_doctor_names_libraries_operators_and_the_next_command():
    output = mmfmkt('doctor')
    for name in ('torch', 'mmengine', 'mmcv', 'mmdet'):
        assert installed_version(name) in output
    assert 'mmcv.ops ok' in output and 'detectors can be distilled' in output
    assert 'mmfmkt distill' in output


@pytest.mark.parametrize('num_workers', [0, 2])
@pytest.mark.parametrize(
    'library',
    [
        dict(default_scope='mmpretrain'),
        dict(model=dict(type='mmpretrain.models.ImageClassifier')),
        dict(model=dict(type='mmfmkt.ClassificationDistiller')),
    ],
)
def test_loaders_of_classifiers_have_the_defaults_of_mmpretrain(
    library, num_workers
):
    pytest.importorskip('mmpretrain')
    for option in ('', '--no-persistent-workers', '--no-pin-memory'):
        args = train.build_parser('').parse_args(
            ['config.py', *option.split()]
        )
        loader = dict(num_workers=num_workers)
        cfg = Config(dict(library, val_dataloader=loader))
        set_dataloaders(cfg, args)
        assert cfg.val_dataloader == dict(
            num_workers=num_workers,
            pin_memory='memory' not in option,
            persistent_workers=num_workers > 0 and 'workers' not in option,
            collate_fn=dict(type='default_collate'),
        )


@pytest.mark.parametrize('library', ['mmdet', 'mmpretrain'])
def test_flips_need_no_default_scope(library):
    pytest.importorskip('mmpretrain')
    model = dict(
        mmdet='mmdet.models.RetinaNet',
        mmpretrain='mmpretrain.models.ImageClassifier',
    )
    pack = dict(mmdet='PackDetInputs', mmpretrain='PackInputs')
    pipeline = [
        dict(type='mmcv.transforms.LoadImageFromFile'),
        dict(type=f'{library}.datasets.transforms.{pack[library]}'),
    ]
    cfg = Config(
        dict(
            model=dict(type=model[library]),
            test_dataloader=dict(dataset=dict(pipeline=pipeline)),
        )
    )
    use_tta(cfg)
    for scope in ('mmengine', library):
        with DefaultScope.overwrite_default_scope(scope):
            # The data sets of a library build transforms by its own registry.
            registry = import_module(f'{library}.registry').TRANSFORMS
            flips = registry.build(cfg.tta_pipeline[-1])
            assert len(flips.subroutines) == 2
            with MODELS.switch_scope_and_registry(None) as registry:
                tta_model = registry.get(cfg.tta_model.type)
        assert tta_model.__module__.startswith(library)


def test_the_doctor_needs_no_library():
    """Without site-packages, it lists all libraries as not installed."""
    output = run(sys.executable, '-S', '-m', 'mmfmkt', 'doctor', fails=True)
    for name in ('torch', 'mmengine', 'pydantic'):
        assert f'\n{name} ' in output
    assert output.count('not installed') >= 6 and 'Traceback' not in output
    output = run(sys.executable, '-S', '-m', 'mmfmkt', 'configs', fails=True)
    assert 'mmengine is not installed' in output and 'Traceback' not in output


@pytest.mark.slow
def test_configs_are_listed_shown_and_copied(tmp_path):
    output = mmfmkt('configs')
    paths = [x for x in output.split() if x.startswith('configs/')]
    assert paths and all((ROOT / x).is_file() for x in paths)
    # Each config has one line, also in a narrow terminal.
    lines = [x for x in output.splitlines() if x.startswith('configs/')]
    assert len(lines) == len(set(paths))
    name = 'theta_retinanet_r101_r50'
    source = ROOT / 'configs' / 'retinanet' / f'{name}.py'
    assert mmfmkt('configs', name) == source.read_text()
    mmfmkt('configs', name, '--copy', 'own.py', cwd=tmp_path)
    copy = Config.fromfile(tmp_path / 'own.py')
    assert copy.model.variant == 'theta'
    assert copy.model.student.backbone.depth == 50
    output = mmfmkt(
        'configs', name, '--copy', 'own.py', cwd=tmp_path, fails=True
    )
    assert 'exists' in output


@pytest.mark.slow
def test_each_config_is_found_by_the_path_that_the_list_shows():
    for entry in shipped_models():
        assert find_config(entry['Config']) == SHIPPED / entry['Config']
    with pytest.raises(ConfigError, match='did you mean|called'):
        find_config('theta_retinanet_r101_r5')


@pytest.mark.slow
def test_packaged_configs_are_composed_in_an_empty_folder(tmp_path):
    output = mmfmkt(
        'distill',
        'mmdet::retinanet/retinanet_r18_fpn_1x_coco.py',
        *('--teacher', 'mmdet::retinanet/retinanet_r50_fpn_1x_coco.py'),
        '--dry-run',
        cwd=tmp_path,
    )
    assert 'config    work_dirs/' in output
    assert list(tmp_path.glob('work_dirs/*/*.py'))
