"""Teachers of other classes: matching by name, and what is compared."""

import pytest
import torch
from tiny import (
    batch,
    classification,
    distiller,
    image_batch,
    resnet,
    retinanet,
)

pytest.importorskip('mmdet')

from mmfmkt.models.distillers.shared_classes import (  # noqa: E402
    ClassOutputs,
    class_folders,
    class_names,
    student_class_names,
)
from mmfmkt.models.distillers.teacher import TeacherHolder  # noqa: E402
from mmfmkt.models.losses import CWDLoss, KDLoss  # noqa: E402
from mmfmkt.registry import MODELS  # noqa: E402
from mmfmkt.utils import ConfigError  # noqa: E402

TEACHER = ('person', 'bicycle', 'car', 'motorcycle', 'airplane', 'bus')
STUDENT = ('bus', 'person', 'car')
CLASS_MAPS = 'bbox_head[0]'
ANCHORS = 9


def dataset(classes):
    return dict(type='CocoDataset', metainfo=dict(classes=classes))


def detector(classes, *widths, head=None):
    """Return a whole config, whose data set names the classes."""
    model = retinanet(*widths)
    model.bbox_head.num_classes = len(classes)
    for key, value in (head or {}).items():
        model.bbox_head[key] = value
    return dict(
        model=model,
        train_dataloader=dict(dataset=dataset(classes)),
        default_scope='mmdet',
    )


def build(variant, teacher=TEACHER, student=STUDENT, names=None, **kwargs):
    torch.manual_seed(0)
    flow = dict(metric=dict(type='CWDLoss'), **kwargs.pop('flow', {}))
    taps = [dict(tap=CLASS_MAPS, levels=(0, 1), flow=flow)]
    settings = kwargs.pop('settings', {})
    if not isinstance(teacher, dict):
        teacher = detector(teacher, 24, 16)
    cfg = distiller(
        variant,
        student=detector(student, **kwargs),
        teacher=teacher,
        taps=taps,
    )
    cfg['teacher'].update(settings)
    model = MODELS.build(cfg)
    # Biases are equal at first.
    for network in (model.student, model.teacher):
        torch.nn.init.normal_(network.bbox_head.retina_cls.bias)
    model.set_teacher_dataset(dataset(names or student))
    return model


def read(model, data=None):
    """Return inputs, and class maps of student and teacher at level 1."""
    data = model.data_preprocessor(data or batch(), True)
    samples = data['data_samples']
    for sample in samples:
        sample.gt_instances.labels %= 2
    with torch.no_grad():
        maps = [
            network.bbox_head(network.extract_feat(data['inputs']))[0][1]
            for network in (model.student, model.teacher)
        ]
    targets = model.read_teacher(data['inputs'], samples)
    return data, *maps, targets[CLASS_MAPS][1]


def by_class(maps, count):
    return maps.unflatten(1, (-1, count))


@pytest.mark.parametrize('variant', ['theta', 'fmkt', 'direct'])
def test_class_maps_are_the_teachers_maps_of_the_students_classes(variant):
    model = build(variant)
    data, student, teacher, target = read(model)
    assert student.shape == target.shape
    expected = by_class(teacher, 6)[:, :, [5, 0, 2]]
    assert torch.equal(by_class(target, 3), expected)
    assert model.class_summary == [
        f'{CLASS_MAPS}: 3 of 3 classes are taught: bus, person, car'
    ]
    losses = model(**data, mode='loss')
    if variant == 'direct':
        name = 'bbox_head.0.1.loss_direct'
        torch.testing.assert_close(losses[name], CWDLoss()(student, target))
    model.parse_losses(losses)[0].backward()
    assert all(p.grad is not None for p in model.parameters())


def test_class_maps_of_tensor_mode_are_those_of_the_flow():
    model = build('fmkt').eval()
    for parameter in model.flows.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    images = torch.randn(2, 3, 64, 96)
    with torch.no_grad():
        maps, boxes = model(images)
        plain = model.student.bbox_head(model.student.extract_feat(images))
        expected, _ = model.flows[CLASS_MAPS].sample(plain)
    assert all(map(torch.equal, maps, expected))
    assert all(map(torch.equal, boxes, plain[1]))
    assert not torch.equal(maps[0], plain[0][0])
    assert 'forward' not in vars(model.student.bbox_head)


def test_classes_are_mapped_to_other_names():
    mapping = dict(lorry='bus', human='person')
    model = build(
        'direct', student=('human', 'lorry'), settings=dict(classes=mapping)
    )
    _, _, teacher, target = read(model)
    assert torch.equal(by_class(target, 2), by_class(teacher, 6)[:, :, [0, 5]])
    assert model.class_summary[0].endswith(
        "2 of 2 classes are taught: human (teacher's person), lorry "
        "(teacher's bus)"
    )


@pytest.mark.parametrize('variant', ['theta', 'fmkt', 'direct'])
def test_only_shared_classes_are_compared(variant):
    model = build(variant, student=('kite', 'car', 'person'))
    data, student, teacher, target = read(model)
    transfer = model.flows['bbox_head[0]']['1']
    student.requires_grad_()
    losses, output = transfer(student, target)
    assert output.shape == student.shape
    sum(losses.values()).backward()
    # A new flow is the identity.
    expected = by_class(teacher, 6)[:, :, [2, 0]].flatten(1, 2)
    shared = by_class(student, 3)[:, :, 1:].flatten(1, 2)
    for name in ('loss_flow', 'loss_direct'):
        if name in losses:
            torch.testing.assert_close(
                losses[name], CWDLoss()(shared, expected)
            )
    # Without a flow, no gradient reaches the class that is not compared.
    if variant == 'direct':
        untaught, *taught = by_class(student.grad, 3).unbind(2)
        assert not untaught.any() and all(x.any() for x in taught)
    assert '2 of 3 classes are taught: car, person' in model.class_summary[0]
    losses = model(**data, mode='loss')
    model.parse_losses(losses)[0].backward()
    assert all(p.grad is not None for p in model.parameters())


def test_softmax_heads_compare_the_background_too():
    softmax = dict(loss_cls=dict(type='CrossEntropyLoss', use_sigmoid=False))
    model = build(
        'direct', detector(TEACHER, 24, 16, head=softmax), head=softmax
    )
    _, student, teacher, target = read(model)
    assert student.shape[1] == 4 * ANCHORS
    expected = by_class(teacher, 7)[:, :, [5, 0, 2, 6]]
    assert torch.equal(by_class(target, 4), expected)
    # The teacher has no output for the background.
    model = build('direct', detector(TEACHER, 24, 16), head=softmax)
    (transfers,) = model.flows.values()
    compared = transfers['0'].metric.compared_classes
    assert compared.tolist() == [0, 1, 2]


@pytest.mark.parametrize('variant', ['theta', 'fmkt', 'direct'])
def test_other_numbers_of_anchors_are_compared_by_a_convolution(variant):
    fewer = retinanet().bbox_head.anchor_generator
    fewer.update(ratios=[1.0])
    model = build(variant, head=dict(anchor_generator=fewer))
    data, student, teacher, target = read(model)
    expected = by_class(teacher, 6)[:, :, [5, 0, 2]]
    assert torch.equal(by_class(target, 3), expected)
    projection = model.flows['bbox_head[0]']['1'].transform.proj
    assert tuple(projection.weight.shape[:2]) == (27, 9)
    model.parse_losses(model(**data, mode='loss'))[0].backward()
    assert all(p.grad is not None for p in model.parameters())


@pytest.mark.parametrize('names', [TEACHER, ('a', 'crane') * 3, None])
def test_equal_classes_are_compared_as_they_are(names):
    teacher = detector(names or TEACHER, 24, 16)
    if names is None:
        teacher = teacher['model']
    model = build('direct', teacher, names or TEACHER)
    _, _, maps, target = read(model)
    assert torch.equal(maps, target) and not model.class_summary
    flow = model.flows['bbox_head[0]']
    assert flow.teacher_classes is flow['0'].metric.compared_classes is None


def test_class_names_of_a_checkpoint_override_those_of_the_config(tmp_path):
    teacher = detector([str(i) for i in range(6)], 24, 16)
    network = build('direct', TEACHER).teacher
    for key, meta in enumerate(
        (dict(dataset_meta=dict(CLASSES=TEACHER)), dict(CLASSES=TEACHER))
    ):
        path = str(tmp_path / f'{key}.pth')
        torch.save(dict(state_dict=network.state_dict(), meta=meta), path)
        model = build('direct', teacher, settings=dict(checkpoint=path))
        assert 'bus, person, car' in model.class_summary[0]


def test_a_list_names_the_classes_of_a_teacher_without_names():
    model = build(
        'direct',
        detector(TEACHER, 24, 16)['model'],
        settings=dict(classes=['a', 'b', 'car', 'c', 'd', 'bus']),
    )
    assert '2 of 3 classes are taught: bus, car' in model.class_summary[0]


UNNAMED = detector(TEACHER, 24, 16)['model']
REFUSED = {
    'no common name': (
        dict(student=('kite', 'oven')),
        r'\(kite, oven\) and of the teacher \(person, .*no name in common: '
        'set model.teacher.classes to a dict',
    ),
    'unknown names of the teacher': (
        dict(teacher=UNNAMED),
        'The student has 3 classes and the teacher 6, whose names are in '
        'neither .* set model.teacher.classes to the list',
    ),
    'unknown names of the student': (
        dict(names=('cat', 'dog')),
        r'names of the 3 classes of the student are unknown: set metainfo',
    ),
    'unknown class of the teacher': (
        dict(settings=dict(classes=dict(car='cars'))),
        r"names 'cars', which is not a class of the teacher \(did you mean "
        r"'car'\?\)",
    ),
    'unknown class of the student': (
        dict(settings=dict(classes=dict(cars='car'))),
        "names 'cars', which is not a class of the student",
    ),
    'list of another length': (
        dict(settings=dict(classes=['car'])),
        'model.teacher.classes has 1 names, but the teacher has 6 classes',
    ),
    'number': (dict(settings=dict(classes=3)), r'^model.teacher.classes must'),
    'velocities of some classes': (
        dict(
            variant='fmkt',
            student=('kite', 'car', 'person'),
            flow=dict(compare='velocities'),
        ),
        'only 2 of 3 classes',
    ),
    'interpolated states of some classes': (
        dict(variant='parallel', student=('kite', 'car', 'person')),
        'only 2 of 3 classes',
    ),
}


@pytest.mark.parametrize('name', REFUSED)
def test_classes_that_cannot_be_matched_raise_a_one_line_error(name):
    settings, sentence = REFUSED[name]
    with pytest.raises(ConfigError, match=sentence) as error:
        build(**{'variant': 'direct', **settings})
    assert '\n' not in str(error.value)


def test_unequal_classes_need_a_data_set_before_training():
    cfg = distiller(
        'direct',
        student=detector(STUDENT),
        teacher=detector(TEACHER, 24, 16),
        taps=[dict(tap=CLASS_MAPS)],
    )
    model = MODELS.build(cfg)
    with pytest.raises(ConfigError, match='call set_teacher_dataset'):
        read(model)


def test_class_names_are_read_from_data_sets_and_their_configs(tmp_path):
    names = tmp_path / 'names.txt'
    names.write_text('cat\ndog\n')
    coco = dict(type='mmdet.CocoDataset')
    assert class_names(coco)[:2] == ['person', 'bicycle']
    assert len(class_names(coco)) == 80
    assert class_names(dataset(str(names))) == ['cat', 'dog']
    assert class_names(dict(type='A', classes=('cat',))) == ['cat']
    wrapped = dict(type='RepeatDataset', dataset=dataset(('cat',)))
    assert class_names(wrapped) == ['cat']
    assert class_names(dict(type='B', datasets=[wrapped])) == ['cat']
    assert class_names(dict(type='B')) is class_names(None) is None


def test_classes_of_image_folders_are_the_names_of_their_folders(tmp_path):
    pytest.importorskip('mmpretrain')
    for name in ('dog', 'cat'):
        (tmp_path / 'train' / name).mkdir(parents=True)
    folder = dict(
        type='mmpretrain.CustomDataset',
        data_root=tmp_path,
        data_prefix='train',
    )
    assert class_folders(folder) == ['cat', 'dog']
    wrapped = dict(type='mmpretrain.RepeatDataset', dataset=folder, times=2)
    assert class_folders(wrapped) == ['cat', 'dog']
    for changes in (dict(ann_file='a.txt'), dict(data_prefix='no')):
        assert class_folders(dict(folder, **changes)) is None
    logits = tuple(ClassOutputs(x, x) for x in (2, 3))
    student = resnet(num_classes=2)
    for names in (['cat', 'cow', 'dog'], None):
        holder = TeacherHolder(
            dict(config=resnet(num_classes=3), classes=names),
            'mmpretrain',
            MODELS.build(dict(student, _scope_='mmpretrain')),
        )
        if names:
            assert holder.match_classes(logits, folder)[0] == [0, 2]
            continue
        # Without names of the teacher, equal numbers match by index.
        logits = (logits[1], logits[1])
        assert holder.match_classes(logits, folder)[0] == [0, 1, 2]


def test_class_folders_of_equal_number_are_matched_by_shared_names(tmp_path):
    pytest.importorskip('mmpretrain')
    outputs = (ClassOutputs(2, 2),) * 2
    folder = dict(type='mmpretrain.CustomDataset', data_root=tmp_path)
    for name in ('dog', 'cat'):
        (tmp_path / name).mkdir()
    for teacher, expected in (
        (['dog', 'cow'], ['cat', 'dog']),
        (['cow', 'ox'], None),
        (None, None),
    ):
        assert student_class_names(folder, outputs, teacher) == expected
    for name, code in (('dog', 'n02084071'), ('cat', 'n02121620')):
        (tmp_path / name).rename(tmp_path / code)
    assert class_folders(folder) is None


def classifiers(variant, student, teacher, mapping=None, **flow):
    pytest.importorskip('mmpretrain')
    torch.manual_seed(0)
    whole = dict(
        model=resnet(8, num_classes=len(teacher)),
        train_dataloader=dict(dataset=dataset(teacher)),
    )
    cfg = classification(
        variant,
        resnet(num_classes=len(student)),
        whole,
        flow=flow,
    )
    cfg['teacher']['classes'] = mapping
    model = MODELS.build(cfg)
    model.set_teacher_dataset(dataset(student))
    return model


@pytest.mark.parametrize('variant', ['theta', 'fmkt', 'direct'])
def test_logits_of_shared_classes_are_compared(variant):
    student = ('kite', 'bus', 'person', 'lorry')
    mapping = dict(bus='bus', person='person', lorry='car')
    model = classifiers(variant, student, TEACHER, mapping)
    data = model.data_preprocessor(image_batch(num_classes=4), True)
    targets = model.read_teacher(data['inputs'], data['data_samples'])['head']
    with torch.no_grad():
        expected = model.teacher(data['inputs'])[:, [5, 0, 2]]
        logits = model.eval().student(data['inputs'])[:, 1:]
    assert torch.equal(targets[:, 1:], expected)
    losses = model(**data, mode='loss')
    for name in ('head.loss_flow', 'head.loss_direct'):
        # In Theta, a branch of its own predicts the logits.
        if name in losses and variant != 'theta':
            loss = KDLoss()(logits, expected)
            torch.testing.assert_close(losses[name], loss)
    model.train()
    model.parse_losses(model(**data, mode='loss'))[0].backward()
    assert all(p.grad is not None for p in model.parameters())
    assert model.class_summary == [
        "head: 3 of 4 classes are taught: bus, person, lorry (teacher's car)"
    ]


def test_losses_with_labels_need_all_classes():
    settings = dict(metric=dict(type='DKDLoss'))
    model = classifiers('direct', STUDENT, TEACHER, **settings)
    data = model.data_preprocessor(image_batch(num_classes=3), True)
    assert model(**data, mode='loss')['head.loss_direct'] > 0
    with pytest.raises(ConfigError, match='DKDLoss needs all of them'):
        classifiers('direct', ('kite', 'bus'), TEACHER, **settings)


@MODELS.register_module()
class OwnKDLoss(KDLoss):
    """Loss of a user, derived from KDLoss."""


def test_distributions_over_one_class_are_refused():
    for metric in ('KDLoss', 'DISTLoss', 'OwnKDLoss'):
        with pytest.raises(ConfigError, match='have one class in common'):
            classifiers(
                'direct', ('kite', 'bus'), TEACHER, metric=dict(type=metric)
            )
    mse = dict(type='MSELoss')
    parts = dict(type='WeightedSumLoss', losses=[dict(type='KDLoss'), mse])
    for metric in (mse, parts):
        classifiers('direct', ('kite', 'bus'), TEACHER, metric=metric)
    build('direct', student=('kite', 'bus'))
