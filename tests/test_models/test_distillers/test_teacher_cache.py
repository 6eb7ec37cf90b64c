"""Cache of teacher outputs: equal outputs, and one run for each image."""

import sqlite3
import threading

import pytest
import torch
from helpers import run
from tiny import (
    batch,
    classification,
    distiller,
    image_batch,
    retinanet,
    write_config,
)

pytest.importorskip('mmdet')

from mmengine.config import Config  # noqa: E402

from mmfmkt.models.distillers.teacher_cache import (  # noqa: E402
    TeacherCache,
)
from mmfmkt.registry import MODELS, TRANSFORMS  # noqa: E402
from mmfmkt.utils import ConfigError  # noqa: E402


def build(path, model=None, seed=0, **teacher):
    torch.manual_seed(seed)
    model = model or distiller()
    if path is not None:
        model['teacher']['cache'] = str(path)
    model['teacher'].update(teacher)
    return MODELS.build(model).train()


def read(model, raw):
    """Return the targets, and the number of images that the teacher ran on."""
    counts = []
    handle = model.teacher.backbone.register_forward_hook(
        lambda _module, args, _output: counts.append(len(args[0]))
    )
    data = model.data_preprocessor(raw, True)
    targets = model.read_teacher(data['inputs'], data['data_samples'])
    handle.remove()
    return targets, sum(counts)


def check_equal(outputs, expected, tolerance=0.0):
    for tap, levels in expected.items():
        if torch.is_tensor(levels):
            levels, outputs = {0: levels}, {tap: {0: outputs[tap]}}
        for level, tensor in levels.items():
            assert outputs[tap][level].dtype == tensor.dtype
            torch.testing.assert_close(
                outputs[tap][level], tensor, rtol=0, atol=tolerance
            )


def part_of(raw, indices):
    return {key: [x[i] for i in indices] for key, x in raw.items()}


def test_cached_images_do_not_run_the_teacher(tmp_path):
    live, cached = build(None), build(tmp_path / 'cache.sqlite')
    raw = batch(4)
    first, count = read(cached, part_of(raw, [0, 1]))
    check_equal(first, read(live, part_of(raw, [0, 1]))[0])
    assert count == 2
    again, count = read(cached, part_of(raw, [1, 0]))
    assert count == 0
    for level, tensor in first['neck'].items():
        assert torch.equal(again['neck'][level].flip(0), tensor)
    # The teacher runs on the new images of a batch.
    mixed, count = read(cached, part_of(raw, [2, 1, 3]))
    assert count == 2
    check_equal(mixed, read(live, part_of(raw, [2, 1, 3]))[0], 1e-5)
    # Another distiller reads the same file.
    later, count = read(build(tmp_path / 'cache.sqlite'), raw)
    assert count == 0
    check_equal(later, read(live, raw)[0], 1e-5)


@pytest.mark.slow
def test_keys_depend_on_pixels_teacher_precision_and_taps(tmp_path):
    path = tmp_path / 'cache.sqlite'
    model, raw = build(path), batch(2)
    read(model, raw)
    mirrored = dict(raw, inputs=[x.flip(-1) for x in raw['inputs']])
    one_value = dict(raw, inputs=[x.clone() for x in raw['inputs']])
    for image in one_value['inputs']:
        image[0, 0, 0] += 1
    swapped = dict(raw, inputs=[x.clone() for x in raw['inputs']])
    for image in swapped['inputs']:
        image[:, [0, 1]] = image[:, [1, 0]]
    for other in (mirrored, one_value, swapped):
        assert read(model, other)[1] == 2
    assert read(build(path, seed=1), raw)[1] == 2
    assert read(build(path, dtype='bfloat16'), raw)[1] == 2
    with torch.autocast('cpu', torch.bfloat16):
        # The precision of the previous entries.
        assert read(model, raw)[1] == 0
    assert read(build(path, distiller(levels=(0, 1))), raw)[1] == 2
    assert read(model, raw)[1] == 0


def test_logits_of_a_classifier_are_cached(tmp_path):
    pytest.importorskip('mmpretrain')
    path, raw = tmp_path / 'cache.sqlite', image_batch()
    live, cached = build(None, classification()), build(path, classification())
    first, count = read(cached, raw)
    again, second_count = read(cached, raw)
    assert (count, second_count) == (4, 0)
    for outputs in (first, again):
        check_equal(outputs, read(live, raw)[0])


def test_black_images_of_unlike_shapes_share_no_entries(tmp_path):
    cache = TeacherCache(str(tmp_path / 'cache.sqlite'))
    for size in ((4, 8), (8, 4), (4, 8)):
        images = torch.zeros(1, 3, *size)
        outputs = cache.outputs(images, [None], lambda x, _: dict(tap=x))
        assert torch.equal(outputs['tap'], images)
    assert (cache.hits, cache.lookups) == (1, 3)


@pytest.mark.parametrize('outputs', ([0], [2]))
def test_teachers_of_equal_weights_that_output_other_layers_share_no_entries(
    outputs, tmp_path
):
    pytest.importorskip('mmpretrain')
    settings = dict(tap='backbone', flow=dict(metric=dict(type='PKDLoss')))
    path, raw = tmp_path / 'cache.sqlite', image_batch()
    read(build(path, classification(**settings)), raw)
    options = {'backbone.out_indices': outputs}
    other = build(path, classification(**settings), cfg_options=options)
    assert read(other, raw)[1] == 4
    again = build(path, classification(**settings), cfg_options=options)
    assert read(again, raw)[1] == 0


def test_a_full_cache_is_still_read(tmp_path):
    path, raw = tmp_path / 'cache.sqlite', batch(4)
    read(build(path), part_of(raw, [0, 1]))
    full = build(None, cache=dict(path=str(path), max_gb=1e-6))
    assert [read(full, part_of(raw, x))[1] for x in ([0], [2], [2])] == [
        0,
        1,
        1,
    ]


@pytest.mark.slow
def test_the_size_is_available_while_another_process_closes_the_file(tmp_path):
    cache = TeacherCache(tmp_path / 'cache.sqlite')

    def open_and_close():
        for _ in range(100):
            file = sqlite3.connect(cache.path)
            with file:
                file.execute('CREATE TABLE IF NOT EXISTS other (x)')
                file.execute('INSERT INTO other VALUES (0)')
            file.close()

    other = threading.Thread(target=open_and_close)
    other.start()
    while other.is_alive():
        assert cache.bytes_on_disk > 0


@pytest.mark.parametrize(
    'cache', (5, dict(max_gb=1.0), dict(path='x', max_gb=0), dict(pth='x'))
)
def test_invalid_settings_raise_an_error_that_names_the_key(cache):
    with pytest.raises(ConfigError, match='model.teacher.cache'):
        build(None, cache=cache)


def test_a_file_that_is_not_a_cache_is_not_overwritten(tmp_path):
    path = tmp_path / 'notes.txt'
    path.write_text('not a database\n' * 99)
    before = path.read_bytes()
    with pytest.raises(ConfigError, match='notes.txt'):
        build(path)
    assert path.read_bytes() == before


def test_recorded_views_of_an_image_repeat(tmp_path):
    pytest.importorskip('mmcv.transforms')
    views = TRANSFORMS.build(
        dict(
            type='mmfmkt.RecordedViews',
            views=3,
            transforms=[
                dict(
                    type='mmcv.RandomResize',
                    scale=(80, 80),
                    ratio_range=(0.5, 2.0),
                )
            ],
        )
    )
    image = torch.zeros(40, 60, 3).numpy()
    scales = {}
    torch.manual_seed(0)
    before = torch.get_rng_state()
    for index in [0, 1] * 30:
        results = views(dict(img=image, sample_idx=index, img_shape=(40, 60)))
        scales.setdefault(index, set()).add(results['scale'])
    assert len(scales[0]) == len(scales[1]) == 3 and scales[0] != scales[1]
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.slow
def test_a_run_with_a_cache_ends_with_equal_weights(tmp_path, shapes):
    """With recorded views through tools/train.py, which logs the hits."""
    weights, logs = [], []
    for name in ('live', 'cached'):
        write_config(tmp_path / f'{name}.py', shapes, 'fmkt', epochs=2)
        cfg = Config.fromfile(tmp_path / f'{name}.py')
        dataset = cfg.train_dataloader.dataset
        dataset.pipeline = [
            dict(
                type='mmfmkt.RecordedViews',
                views=1,
                transforms=dataset.pipeline,
            )
        ]
        cfg.custom_imports = dict(imports=['mmfmkt'])
        torch.manual_seed(0)
        teacher = MODELS.build(dict(retinanet(24, 16), _scope_='mmdet'))
        torch.save(teacher.state_dict(), tmp_path / 'teacher.pth')
        cfg.model.teacher.checkpoint = str(tmp_path / 'teacher.pth')
        if name == 'cached':
            cfg.model.teacher.cache = str(tmp_path / 'cache.sqlite')
        cfg.dump(tmp_path / f'{name}.py')
        logs.append(
            run(
                'tools/train.py',
                tmp_path / f'{name}.py',
                '--work-dir',
                tmp_path / name,
            )
        )
        weights.append(
            torch.load(tmp_path / name / 'epoch_2.pth', weights_only=False)
        )
    live, cached = (x['state_dict'] for x in weights)
    for key, tensor in live.items():
        torch.testing.assert_close(cached[key], tensor, rtol=1e-4, atol=1e-5)
    assert 'MB per view' in logs[1] and 'MB per view' not in logs[0]
    count = len(list((shapes / 'train').iterdir()))
    assert f'{count} hits in {count} lookups' in logs[1]
