"""The part of timm that TIMMBackbone uses, if timm is not installed."""

from torch import Tensor, nn


class Network(nn.Module):
    """Small network with the output channels of timm's ``resnet18``."""

    feature_info = None

    def __init__(self, in_chans: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(in_chans, 8, 3, 4, 1),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.Conv2d(8, 512, 3, 4, 1),
        )

    def reset_classifier(self, num_classes: int, global_pool: str) -> None:
        pass

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


def create_model(
    model_name: str,
    features_only: bool = False,
    pretrained: bool = False,
    in_chans: int = 3,
    checkpoint_path: str = '',
) -> nn.Module:
    """Build the same network for each name."""
    return Network(in_chans)
