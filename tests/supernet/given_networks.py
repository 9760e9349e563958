"""Networks that somebody might have, for the tests of given networks."""

import torch
from torch import nn
from torch.nn.functional import max_pool2d


def conv_bn(arriving, leaving, kernel=3, stride=1, groups=1):
    return nn.Sequential(
        nn.Conv2d(arriving, leaving, kernel, stride, kernel // 2, groups=groups, bias=False), nn.BatchNorm2d(leaving), nn.ReLU6()
    )


class Gated(nn.Module):
    """Squeeze and excitation, written by hand."""

    def __init__(self, channels):
        super().__init__()
        self.down, self.up = nn.Conv2d(channels, 16, 1), nn.Conv2d(16, channels, 1)

    def forward(self, x):
        return x * torch.sigmoid(self.up(torch.relu(self.down(x.mean((2, 3), keepdim=True)))))


class Inverted(nn.Module):
    """An inverted residual block whose caller tells it more than it needs."""

    def __init__(self, channels, kernel, gate=True):
        super().__init__()
        wide = 2 * channels
        self.expand, self.depthwise = conv_bn(channels, wide, 1), conv_bn(wide, wide, kernel, groups=wide)
        self.gate = Gated(wide) if gate else nn.Identity()
        self.project, self.norm = nn.Conv2d(wide, channels, 1, bias=False), nn.BatchNorm2d(channels)

    def forward(self, x, rate=None):
        return x + self.norm(self.project(self.gate(self.depthwise(self.expand(x)))))


class Everything(nn.Module):
    """Residual blocks, depthwise and grouped convolutions, gates, a concatenation, a flattening, a linear layer with a batch norm."""

    def __init__(self, classes=4):
        super().__init__()
        self.stem = conv_bn(1, 24)
        self.block = Inverted(24, 5)
        self.left, self.right = conv_bn(24, 16), conv_bn(24, 32, 1)
        self.joined = nn.BatchNorm2d(72)
        self.grouped = nn.Sequential(conv_bn(72, 64, 1), conv_bn(64, 64, groups=4), conv_bn(64, 32, 1))
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(32 * 4, 48), nn.BatchNorm1d(48), nn.ReLU(), nn.Linear(48, classes))

    def forward(self, x):
        x = self.block(self.stem(x), rate=0.1)
        x = self.joined(torch.cat([self.left(x), x, self.right(x)], 1))
        return self.head(max_pool2d(self.grouped(x), 4))


class Shuffled(nn.Module):
    """Channels that are shuffled and divided, and a layer whose source has its size in it."""

    def __init__(self):
        super().__init__()
        self.stem, self.inner, self.after = conv_bn(1, 32), conv_bn(16, 64), conv_bn(64, 16)
        self.fixed, self.last = conv_bn(32, 32), conv_bn(32, 32)
        self.classifier = nn.Linear(32, 4)

    def forward(self, x):
        x = self.stem(x)
        one, other = x.chunk(2, 1)
        x = torch.cat([one, self.after(self.inner(other))], 1)
        x = x.view(len(x), 2, 16, *x.shape[2:]).transpose(1, 2).reshape(x.shape)
        x = self.fixed(x)
        x = self.last(x.reshape(len(x), 32, 8, 8))
        return self.classifier(x.mean((2, 3)))


def prepared(network, seed=0):
    """The network with batch norms that are not as they begin."""
    generator = torch.Generator().manual_seed(seed)
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d | nn.BatchNorm1d):
            nn.init.uniform_(layer.weight, 0.5, 1.5, generator=generator)
            nn.init.normal_(layer.bias, 0, 0.3, generator=generator)
            layer.running_mean.copy_(torch.randn(layer.running_mean.shape, generator=generator) / 5)
            layer.running_var.copy_(0.5 + torch.rand(layer.running_var.shape, generator=generator))
    return network.eval()


def everything():
    torch.manual_seed(0)
    return prepared(Everything())
