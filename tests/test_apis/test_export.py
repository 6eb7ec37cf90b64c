"""Files of an export, and models that are refused."""

import pytest
import torch
from mmengine.config import Config
from mmengine.model import BaseModule
from tiny import classification, distiller, resnet

from mmfmkt.apis import export_student
from mmfmkt.engine.export import student_config
from mmfmkt.models.distillers.networks import build_network
from mmfmkt.registry import MODELS

pytest.importorskip('mmdet')


@pytest.fixture(scope='module', params=('fmkt', 'theta', 'online', 'direct'))
def run(request, tmp_path_factory):
    """A config with what users add to one, and a checkpoint."""
    model = distiller(request.param)
    config = Config(
        dict(
            model=model,
            distiller=dict(type='mmfmkt.DetectionDistiller'),
            custom_imports=dict(
                imports=['mmfmkt', 'json'], allow_failed_imports=False
            ),
            custom_hooks=[
                dict(type='mmfmkt.ExportStudentHook'),
                dict(type='EMAHook'),
            ],
            default_hooks=dict(
                timer=dict(type='IterTimerHook'),
                logger=None,
                export_student=dict(type='mmfmkt.ExportStudentHook'),
            ),
            val_evaluator=dict(
                type='CityScapesMetric', outfile_prefix='./metric'
            ),
            work_dir='somewhere',
            load_from='start.pth',
            resume=True,
            default_scope='mmdet',
        )
    )
    path = tmp_path_factory.mktemp(request.param) / 'epoch_1.pth'
    state = MODELS.build(model).state_dict()
    meta = dict(dataset_meta=dict(classes=('a',)), epoch=1)
    torch.save(dict(state_dict=state, meta=meta, optimizer=dict()), path)
    return request.param, config, str(path)


def test_exported_configs_keep_user_settings_without_those_of_the_run(
    run, tmp_path
):
    variant, config, checkpoint = run
    before = config.pretty_text
    exported = export_student(config, checkpoint, tmp_path / 'new' / 'folder')
    assert config.pretty_text == before
    written = Config.fromfile(exported.config)
    assert written.custom_hooks == [dict(type='EMAHook')]
    assert written.val_evaluator == config.val_evaluator
    assert set(written.default_hooks) == {'timer', 'logger'}
    assert 'json' in written.custom_imports.imports
    assert not written.resume and 'work_dir' not in written
    assert written.load_from is None
    assert ('mmfmkt' in written.pretty_text) == (variant in ('fmkt', 'online'))


def test_overrides_of_the_backbone_are_exported():
    model = dict(distiller('theta'), backbone=dict(frozen_stages=1))
    exported = student_config(Config(dict(model=model))).model.backbone
    assert exported == dict(model['student'].backbone, frozen_stages=1)


@pytest.mark.parametrize(
    'imports, kept',
    [
        ('json', ['json']),
        (['mmfmkt.engine', 'mmfmkt_project'], ['mmfmkt_project']),
    ],
)
def test_exported_configs_keep_the_modules_of_users(imports, kept):
    cfg = Config(
        dict(
            model=distiller('theta'),
            default_scope='mmdet',
            custom_imports=dict(imports=imports),
        )
    )
    assert student_config(cfg).custom_imports.imports == kept


def test_the_checkpoint_keeps_its_classes_and_drops_the_optimizer(
    run, tmp_path
):
    _, config, checkpoint = run
    exported = export_student(config, checkpoint, tmp_path)
    saved = torch.load(exported.checkpoint, weights_only=False)
    assert set(saved) == {'meta', 'state_dict'}
    assert saved['meta']['dataset_meta'] == dict(classes=('a',))
    assert [x.name for x in sorted(tmp_path.iterdir())] == [
        'student.pth',
        'student.py',
    ]


def test_the_exported_weights_fill_the_exported_model(run, tmp_path):
    _, config, checkpoint = run
    exported = export_student(config, checkpoint, tmp_path)
    model = Config.fromfile(exported.config).model
    built = MODELS.build(dict(model, _scope_='mmdet'))
    saved = torch.load(exported.checkpoint, weights_only=False)
    built.load_state_dict(saved['state_dict'], strict=True)


@pytest.mark.parametrize('run', ['fmkt'], indirect=True)
def test_the_default_variant_need_not_be_written(run, tmp_path):
    _, config, checkpoint = run
    config = Config(dict(config._cfg_dict.to_dict()))
    del config.model['variant']
    written = export_student(config, checkpoint, tmp_path).config.read_text()
    assert 'mmfmkt' in written


@pytest.mark.parametrize('run', ['fmkt'], indirect=True)
def test_exports_without_a_student_or_checkpoint_are_refused(run, tmp_path):
    _, config, checkpoint = run
    with pytest.raises(ValueError, match="no key 'model.student'"):
        export_student(
            Config(dict(model=config.model.student)), checkpoint, tmp_path
        )
    plain = tmp_path / 'plain.pth'
    torch.save(dict(state_dict={'backbone.w': torch.zeros(1)}), plain)
    with pytest.raises(ValueError, match='does not fit this student'):
        export_student(config, str(plain), tmp_path)
    other = torch.load(checkpoint, weights_only=False)
    name = next(x for x in other['state_dict'] if x.endswith('conv1.weight'))
    other['state_dict'][name] = torch.zeros(1)
    torch.save(other, plain)
    with pytest.raises(ValueError, match=f'another shape, .*{name}'):
        export_student(config, str(plain), tmp_path)
    with pytest.raises(ValueError, match='no.pth cannot be read'):
        export_student(config, 'no.pth', tmp_path)


@pytest.mark.parametrize('variant', ('fmkt', 'theta'))
def test_the_distillers_preprocessor_is_exported(variant, tmp_path):
    pytest.importorskip('mmpretrain')
    student = resnet()
    preprocessor = student.pop('data_preprocessor')
    model = classification(
        variant, student=student, data_preprocessor=preprocessor
    )
    config = Config(dict(model=model, default_scope='mmpretrain'))
    state = MODELS.build(model).state_dict()
    torch.save(dict(state_dict=state), tmp_path / 'epoch_1.pth')
    exported = export_student(config, str(tmp_path / 'epoch_1.pth'), tmp_path)
    built = build_network(Config.fromfile(exported.config).model, 'mmpretrain')
    mean = built.data_preprocessor.mean.flatten().tolist()
    assert mean == preprocessor['mean']


def test_students_with_a_timm_backbone_are_exported(tmp_path):
    mmpretrain = pytest.importorskip('mmpretrain')

    @mmpretrain.registry.MODELS.register_module(force=True)
    class TIMMStandIn(BaseModule):
        """Takes what `mmpretrain.TIMMBackbone` takes, and nothing else."""

        def __init__(
            self,
            model_name,
            features_only=False,
            pretrained=False,
            checkpoint_path='',
            in_channels=3,
            init_cfg=None,
        ):
            if not isinstance(pretrained, bool):
                raise TypeError('pretrained must be bool')
            super().__init__(init_cfg)
            self.timm_model = torch.nn.Conv2d(in_channels, 8, 3, 8)

        def forward(self, images):
            return (self.timm_model(images),)

    network = resnet(width=1)
    network['backbone'] = dict(
        type='TIMMStandIn', model_name='resnet18', pretrained=True
    )
    model = classification('fmkt', student=network, teacher=network)
    config = Config(dict(model=model, default_scope='mmpretrain'))
    state = MODELS.build(model).state_dict()
    torch.save(dict(state_dict=state), tmp_path / 'epoch_1.pth')
    exported = export_student(config, str(tmp_path / 'epoch_1.pth'), tmp_path)
    built = MODELS.build(Config.fromfile(exported.config).model)
    saved = torch.load(exported.checkpoint, weights_only=False)
    built.load_state_dict(saved['state_dict'], strict=True)
