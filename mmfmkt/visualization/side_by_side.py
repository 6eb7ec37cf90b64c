"""Several detectors on the same images, beside the ground truth."""

from pathlib import Path
from typing import Dict, Union

import cv2
import mmcv
import numpy as np
import torch
from mmdet.apis import inference_detector
from mmdet.registry import DATASETS
from mmdet.structures import DetDataSample
from mmdet.visualization import DetLocalVisualizer
from mmengine.registry import DefaultScope
from mmengine.structures import InstanceData
from torch import nn

LEGEND = 22  # height of the line of text above an image, in pixels


def draw_side_by_side(
    detectors: Dict[str, nn.Module],
    dataset: dict,
    out_file: Union[str, Path],
    num_images: int = 5,
    score_thr: float = 0.3,
    side: int = 256,
) -> None:
    """Write one picture: a row an image, a column a detector.

    Args:
        detectors (dict[str, nn.Module]): Detectors of
            ``mmdet.apis.init_detector`` by the name to print.
        dataset (dict): Config of the data set that the images are from.
        out_file (str | Path): Picture to write.
        num_images (int): Images to show, those with most boxes first.
        score_thr (float): Lowest score of a box that is drawn.
        side (int): Longer side of an image in the picture, in pixels.
    """
    with DefaultScope.overwrite_default_scope('mmdet'):
        data = DATASETS.build(dataset)
    visualizer = DetLocalVisualizer(line_width=1)
    visualizer.dataset_meta = data.metainfo
    infos = sorted(
        (data.get_data_info(i) for i in range(len(data))),
        key=lambda info: -len(info['instances']),
    )
    rows = []
    for info in infos[:num_images]:
        image = mmcv.imread(info['img_path'], channel_order='rgb')
        scale = side / max(image.shape[:2])
        image = mmcv.imrescale(image, scale)
        panels = {'ground truth': annotated(info['instances'])}
        for name, detector in detectors.items():
            panels[name] = inference_detector(detector, info['img_path'])
        row = []
        for name, sample in panels.items():
            found = sample.pred_instances.cpu()
            found.bboxes = found.bboxes * scale
            visualizer.add_datasample(
                name,
                image,
                DetDataSample(pred_instances=found),
                draw_gt=False,
                pred_score_thr=score_thr,
            )
            row.append(captioned(visualizer.get_image(), name))
        rows.append(np.hstack(row))
    width = max(row.shape[1] for row in rows)
    rows = [
        cv2.copyMakeBorder(
            row,
            0,
            0,
            0,
            width - row.shape[1],
            cv2.BORDER_CONSTANT,
            value=(255,) * 3,
        )
        for row in rows
    ]
    mmcv.imwrite(np.vstack(rows)[..., ::-1], str(out_file))


def annotated(instances: list) -> DetDataSample:
    """The ground truth in the form of a prediction that is sure of it."""
    return DetDataSample(
        pred_instances=InstanceData(
            bboxes=torch.tensor([x['bbox'] for x in instances]),
            labels=torch.tensor([x['bbox_label'] for x in instances]),
            scores=torch.ones(len(instances)),
        )
    )


def captioned(image: np.ndarray, text: str) -> np.ndarray:
    """Put a line of text above an image (RGB)."""
    image = cv2.copyMakeBorder(
        image, LEGEND, 2, 2, 2, cv2.BORDER_CONSTANT, value=(255,) * 3
    )
    return cv2.putText(
        image,
        text,
        (4, LEGEND - 6),
        cv2.FONT_HERSHEY_SIMPLEX,
        0.5,
        (0, 0, 0),
        1,
        cv2.LINE_AA,
    )
