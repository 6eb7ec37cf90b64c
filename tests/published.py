"""Reference implementations of the published CIFAR networks.

Functions from images to logits, which share no code with mmfmkt. A network
draws its tensors during the forward pass, so that one pass gives a state dict
in the layout of RepDistiller and mdistiller, and its logits.
"""

import torch
import torch.nn.functional as F
from torch import relu


class RandomLayers:
    """Builder of layers with random float64 tensors, stored by name.

    Statistics of norms are close to those of their inputs, so that the scale
    of features does not change with depth.
    """

    def __init__(self, num_classes=10):
        self.state, self.num_classes = {}, num_classes
        self.random = torch.Generator().manual_seed(0)

    def draw(self, name, *shape, scale=1.0):
        assert name not in self.state
        self.state[name] = scale * torch.randn(
            shape, generator=self.random, dtype=torch.float64
        )
        return self.state[name]

    def conv(self, x, name, width, side=3, stride=1, groups=1, bias=False):
        fan_in = x.shape[1] // groups * side**2
        weight = self.draw(
            f'{name}.weight',
            width,
            x.shape[1] // groups,
            side,
            side,
            scale=(2 / fan_in) ** 0.5,
        )
        bias = self.draw(f'{name}.bias', width) if bias else None
        return F.conv2d(x, weight, bias, stride, side // 2, groups=groups)

    def norm(self, x, name):
        width = x.shape[1]
        variance, mean = torch.var_mean(x, (0, 2, 3))
        self.state[f'{name}.running_mean'] = mean + self.draw(
            f'{name}.bias', width, scale=0.1
        )
        self.state[f'{name}.running_var'] = variance * 1.2
        self.state[f'{name}.num_batches_tracked'] = torch.tensor(7)
        mean, variance, weight, bias = (
            tensor[:, None, None]
            for tensor in (
                self.state[f'{name}.running_mean'],
                self.state[f'{name}.running_var'],
                self.draw(f'{name}.weight', width),
                self.state[f'{name}.bias'],
            )
        )
        return (x - mean) / (variance + 1e-5).sqrt() * weight + bias

    def conv_norm(self, x, conv, norm, *args, **kwargs):
        return self.norm(self.conv(x, conv, *args, **kwargs), norm)

    def classify(self, x, name):
        weight = self.draw(
            f'{name}.weight',
            self.num_classes,
            x.shape[1],
            scale=x.shape[1] ** -0.5,
        )
        bias = self.draw(f'{name}.bias', self.num_classes)
        return x.mean((2, 3)) @ weight.T + bias


def resnet(net, x, depth, widths=(16, 16, 32, 64)):
    x = relu(net.conv_norm(x, 'conv1', 'bn1', widths[0]))
    for layer in (1, 2, 3):
        width = widths[layer]
        for block in range((depth - 2) // 6):
            name = f'layer{layer}.{block}'
            stride = 2 if layer > 1 and block == 0 else 1
            y = relu(
                net.conv_norm(
                    x, f'{name}.conv1', f'{name}.bn1', width, 3, stride
                )
            )
            y = net.conv_norm(y, f'{name}.conv2', f'{name}.bn2', width)
            if x.shape != y.shape:
                x = net.conv_norm(
                    x,
                    f'{name}.downsample.0',
                    f'{name}.downsample.1',
                    width,
                    1,
                    stride,
                )
            x = relu(x + y)
    return net.classify(x, 'fc')


def wrn(net, x, depth, factor):
    x = net.conv(x, 'conv1', 16)
    for stage in (1, 2, 3):
        width = 8 * 2**stage * factor
        for block in range((depth - 4) // 6):
            name = f'block{stage}.layer.{block}'
            stride = 2 if stage > 1 and block == 0 else 1
            active = relu(net.norm(x, f'{name}.bn1'))
            y = net.conv_norm(
                active, f'{name}.conv1', f'{name}.bn2', width, 3, stride
            )
            y = net.conv(relu(y), f'{name}.conv2', width)
            if x.shape[1] != width:
                x = net.conv(active, f'{name}.convShortcut', width, 1, stride)
            x = x + y
    return net.classify(relu(net.norm(x, 'bn1')), 'fc')


def vgg(net, x, *depths):
    for block, (width, depth) in enumerate(
        zip((64, 128, 256, 512, 512), depths)
    ):
        for i in range(depth):
            x = relu(
                net.conv_norm(
                    x,
                    f'block{block}.{3 * i}',
                    f'block{block}.{3 * i + 1}',
                    width,
                    bias=True,
                )
            )
        if block < 3:
            x = F.max_pool2d(x, 2)
    return net.classify(x, 'classifier')


def mobilenet_v2(net, x):
    x = relu(net.conv_norm(x, 'conv1.0', 'conv1.1', 16, stride=2))
    settings = (
        (1, 8, 1, 1),
        (6, 12, 2, 1),
        (6, 16, 3, 2),
        (6, 32, 4, 2),
        (6, 48, 3, 1),
        (6, 80, 3, 2),
        (6, 160, 1, 1),
    )
    for stage, (expansion, width, blocks, stride) in enumerate(settings):
        for block in range(blocks):
            name = f'blocks.{stage}.{block}.conv'
            hidden = expansion * x.shape[1]
            y = relu(net.conv_norm(x, f'{name}.0', f'{name}.1', hidden, 1))
            y = relu(
                net.conv_norm(
                    y,
                    f'{name}.3',
                    f'{name}.4',
                    hidden,
                    3,
                    1 if block else stride,
                    hidden,
                )
            )
            y = net.conv_norm(y, f'{name}.6', f'{name}.7', width, 1)
            x = x + y if x.shape == y.shape else y
    x = relu(net.conv_norm(x, 'conv2.0', 'conv2.1', 1280, 1))
    return net.classify(x, 'classifier.0')


def shuffle(x, groups):
    permutation = torch.arange(x.shape[1]).view(groups, -1).T.flatten()
    return x[:, permutation]


def shuffle_v1(net, x):
    x = relu(net.conv_norm(x, 'conv1', 'bn1', 24, 1))
    for layer, (width, blocks) in enumerate(((240, 4), (480, 8), (960, 4)), 1):
        for block in range(blocks):
            name = f'layer{layer}.{block}'
            branch_width = width - (0 if block else x.shape[1])
            groups = 1 if layer == 1 and block == 0 else 3
            y = relu(
                net.conv_norm(
                    x,
                    f'{name}.conv1',
                    f'{name}.bn1',
                    branch_width // 4,
                    1,
                    groups=groups,
                )
            )
            y = relu(
                net.conv_norm(
                    shuffle(y, groups),
                    f'{name}.conv2',
                    f'{name}.bn2',
                    branch_width // 4,
                    3,
                    1 if block else 2,
                    branch_width // 4,
                )
            )
            y = net.conv_norm(
                y, f'{name}.conv3', f'{name}.bn3', branch_width, 1, groups=3
            )
            x = relu(
                x + y if block else torch.cat([y, F.avg_pool2d(x, 3, 2, 1)], 1)
            )
    return net.classify(x, 'linear')


def shuffle_v2(net, x):
    x = relu(net.conv_norm(x, 'conv1', 'bn1', 24, 1))

    def layer(y, index, width, **kwargs):
        return net.conv_norm(
            y, f'{name}.conv{index}', f'{name}.bn{index}', width, **kwargs
        )

    for stage, (width, blocks) in enumerate(((116, 4), (232, 8), (464, 4)), 1):
        half = width // 2
        for block in range(blocks):
            name = f'layer{stage}.{block}'
            if block:
                left, y = x[:, :half], x[:, half:]
                y = relu(layer(y, 1, half, side=1))
                y = layer(y, 2, half, groups=half)
                right = relu(layer(y, 3, half, side=1))
            else:
                y = layer(x, 1, x.shape[1], stride=2, groups=x.shape[1])
                left = relu(layer(y, 2, half, side=1))
                y = relu(layer(x, 3, half, side=1))
                y = layer(y, 4, half, stride=2, groups=half)
                right = relu(layer(y, 5, half, side=1))
            x = shuffle(torch.cat([left, right], 1), 2)
    return net.classify(
        relu(net.conv_norm(x, 'conv2', 'bn2', 1024, 1)), 'linear'
    )


WIDE = (32, 64, 128, 256)
# Function and arguments by the published name.
NETWORKS = {
    **{f'resnet{n}': (resnet, n) for n in (8, 14, 20, 32, 44, 56, 110)},
    **{f'resnet{n}x4': (resnet, n, WIDE) for n in (8, 32)},
    **{f'wrn_{n}_{k}': (wrn, n, k) for n in (16, 40) for k in (1, 2)},
    'vgg8': (vgg, 1, 1, 1, 1, 1),
    'vgg11': (vgg, 1, 1, 2, 2, 2),
    'vgg13': (vgg, 2, 2, 2, 2, 2),
    'vgg16': (vgg, 2, 2, 3, 3, 3),
    'vgg19': (vgg, 2, 2, 4, 4, 4),
    'MobileNetV2': (mobilenet_v2,),
    'ShuffleV1': (shuffle_v1,),
    'ShuffleV2': (shuffle_v2,),
}


def publish(name, images, num_classes=10):
    """Return a state dict of a published network, and its logits."""
    network, *args = NETWORKS[name]
    net = RandomLayers(num_classes)
    logits = network(net, images, *args)
    return net.state, logits
