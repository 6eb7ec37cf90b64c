"""Drawing of anti-aliased filled outlines and strokes."""

import math
from dataclasses import dataclass
from typing import List, Optional, Tuple

import cv2
import numpy as np

OVERSAMPLING = 4  # subpixels per pixel and axis, for anti-aliasing


@dataclass
class Piece:
    """A shape (object) or a piece of clutter, in image pixels.

    Attributes:
        contours (list[ndarray]): x and y of points, shape (N, 2). For a
            filled piece, the first contour is the outline and the second
            one a hole.
        width (float, optional): Stroke width; None: filled.
        label (int, optional): Class index; None: clutter.
        corner (tuple[int]): x and y of the top left pixel of ``alpha``.
        alpha (ndarray): Coverage of each pixel in [0, 1], not clipped to the
            image.
    """

    contours: List[np.ndarray]
    width: Optional[float] = None
    label: Optional[int] = None

    def __post_init__(self):
        points = np.concatenate(self.contours)
        margin = 1 + math.ceil((self.width or 0) / 2)
        low = np.floor(points.min(0)).astype(int) - margin
        high = np.ceil(points.max(0)).astype(int) + margin
        cols, rows = (high - low) * OVERSAMPLING
        canvas = np.zeros((rows, cols), np.uint8)
        # OpenCV takes coordinates of pixel centers as fixed-point numbers with
        # 4 fractional bits.
        subpixels = [(x - low) * OVERSAMPLING - 0.5 for x in self.contours]
        fixed_point = [np.round(x * 16).astype(np.int32) for x in subpixels]
        if self.width is None:
            cv2.fillPoly(canvas, fixed_point, 255, cv2.LINE_8, shift=4)
        else:
            thickness = max(1, round(self.width * OVERSAMPLING))
            cv2.polylines(canvas, fixed_point, False, 255, thickness, shift=4)
        size = tuple(map(int, high - low))
        alpha = cv2.resize(canvas, size, interpolation=cv2.INTER_AREA)
        self.corner = (int(low[0]), int(low[1]))
        self.alpha = alpha.astype(np.float32) / 255

    def windows(self, width: int, height: int) -> Tuple[tuple, tuple]:
        """Return the slices where image and ``alpha`` overlap, of each."""
        (x, y), (rows, cols) = self.corner, self.alpha.shape
        x1, x2 = np.clip((x, x + cols), 0, width)
        y1, y2 = np.clip((y, y + rows), 0, height)
        return np.s_[y1:y2, x1:x2], np.s_[y1 - y : y2 - y, x1 - x : x2 - x]

    def visible_fraction(self, free: np.ndarray) -> float:
        """Return the visible fraction of the piece's area.

        Args:
            free (ndarray): Uncovered fraction of each pixel, (H, W).
        """
        window, alpha_window = self.windows(*free.shape[::-1])
        visible = float((self.alpha[alpha_window] * free[window]).sum())
        return visible / float(self.alpha.sum())

    def cover(self, free: np.ndarray) -> None:
        """Remove what the piece covers from ``free``, in place."""
        window, alpha_window = self.windows(*free.shape[::-1])
        free[window] *= 1 - self.alpha[alpha_window]
