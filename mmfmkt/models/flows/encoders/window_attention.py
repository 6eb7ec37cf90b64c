"""Window attention on feature maps of any size."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class WindowAttention(nn.Module):
    """Multi-head attention within windows (Swin, arXiv 2103.14030).

    Windows are shifted by padding the map at the top and the left instead of
    rolling it. No window then joins opposite borders of the map, and one mask
    excludes the padding for the shift and the padding to a multiple of the
    window.

    Args:
        channels (int): C of the map.
        num_heads (int): Number of attention heads.
        head_dim (int): Channels D of a head.
        window (int): Side of a window in pixels.
        shift (int): Rows and columns of padding at the top and the left, in
            [0, window).
    """

    def __init__(
        self,
        channels: int,
        num_heads: int,
        head_dim: int,
        window: int,
        shift: int,
    ) -> None:
        super().__init__()
        self.num_heads, self.head_dim = num_heads, head_dim
        self.window, self.shift = window, shift
        hidden = num_heads * head_dim
        self.qkv = nn.Conv2d(channels, 3 * hidden, 1, bias=False)
        self.proj = nn.Conv2d(hidden, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Apply attention.

        Args:
            x (Tensor): ``(B, C, H, W)``.

        Returns:
            Tensor: Shape of ``x``.
        """
        height, width = x.shape[-2:]
        pads = [
            self.shift,
            -(width + self.shift) % self.window,
            self.shift,
            -(height + self.shift) % self.window,
        ]
        mask = None
        if any(pads):
            valid = F.pad(x.new_ones(1, 1, height, width), pads)
            valid = self.partition(valid, 1)[..., 0][:, :, None]
            # (B * windows, 1, 1, positions)
            mask = valid.repeat(len(x), 1, 1, 1) > 0
        qkv = self.partition(F.pad(self.qkv(x), pads), 3 * self.num_heads)
        # (B * windows, heads, positions, D): the fused kernels of
        # scaled_dot_product_attention need four dimensions.
        q, k, v = qkv.chunk(3, dim=1)
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        rows = (height + sum(pads[2:])) // self.window
        merged = self.merge(attended, len(x), rows)
        return self.proj(
            merged[
                ...,
                self.shift : self.shift + height,
                self.shift : self.shift + width,
            ]
        )

    def partition(self, x: Tensor, heads: int) -> Tensor:
        """Split maps into windows.

        Args:
            x (Tensor): ``(B, heads * D, H, W)``; H and W are multiples of
                ``window``.
            heads (int): Number of heads.

        Returns:
            Tensor: ``(B * windows, heads, positions, D)``.
        """
        size = self.window
        x = x.unflatten(1, (heads, -1))
        x = x.unflatten(4, (-1, size)).unflatten(3, (-1, size))
        # (B, heads, D, rows, size, columns, size)
        x = x.permute(0, 3, 5, 1, 4, 6, 2)
        return x.flatten(4, 5).flatten(0, 2)

    def merge(self, x: Tensor, batch: int, rows: int) -> Tensor:
        """Merge windows into maps, the inverse of ``partition``.

        Args:
            x (Tensor): ``(B * windows, heads, positions, D)``.
            batch (int): B.
            rows (int): Number of windows in a column of the map.
        """
        size = self.window
        x = x.unflatten(2, (size, size)).unflatten(0, (batch, rows, -1))
        # (B, rows, columns, heads, size, size, D)
        return (
            torch.permute(x, (0, 3, 6, 1, 4, 2, 5))
            .flatten(5)
            .flatten(3, 4)
            .flatten(1, 2)
        )
