"""What mixes the groups of grouped convolutions."""

from torch import Tensor


def channel_shuffle(x: Tensor, groups: int) -> Tensor:
    """Take one channel of each group in turn (arXiv 1707.01083, Fig. 1).

    Args:
        x (Tensor): ``(B, C, H, W)``, the groups one after the other.
        groups (int): Number of groups, a divisor of C.

    Returns:
        Tensor: Shape of ``x``.
    """
    return x.unflatten(1, (groups, -1)).transpose(1, 2).flatten(1, 2)
