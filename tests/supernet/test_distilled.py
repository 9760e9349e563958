"""Training with a teacher: the loss by hand, and a teacher that is left alone."""

import numpy as np
import pytest
import torch

from supernet.training.distilled import Distilled
from supernet.training.way import Moment


@pytest.mark.parametrize(("weight", "temperature"), [(0.5, 2.0), (0.3, 1.0), (0.0, 4.0)])
def test_the_loss_is_that_of_the_formula(weight, temperature):
    torch.manual_seed(0)
    teacher, network, images, labels = torch.nn.Linear(5, 4), torch.nn.Linear(5, 4), torch.randn(7, 5), torch.arange(7) % 4
    way = Distilled(teacher, weight=weight, temperature=temperature, label_smoothing=0.0)
    found = way.step(network, (images, labels), Moment(0, 1, 0, 1, 0.1), np.random.default_rng(0))
    p, q = ((side(images) / temperature).softmax(1).detach().double().numpy() for side in (teacher, network))
    alone = network(images).softmax(1).detach().double().numpy()
    assert found["labels"].item() == pytest.approx((1 - weight) * -np.log(alone[np.arange(7), labels]).mean(), rel=1e-4)
    assert found["teacher"].item() == pytest.approx(weight * temperature**2 * (p * np.log(p / q)).sum(1).mean(), rel=1e-4, abs=1e-7)
    sum(found.values()).backward()
    assert teacher.weight.grad is None
    assert network.weight.grad is not None
    assert not list(way.parameters())  # no optimiser and no checkpoint gets hold of it
