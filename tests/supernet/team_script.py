"""Trains a small supernet and saves its weights; test_team.py runs it alone and under torchrun. Arguments: file, batch size."""

import sys

import torch

from supernet import FairPaths, UniformPaths, load, mbconv, shuffle, train
from supernet.training.team import rank, team

if __name__ == "__main__":
    torch.set_num_threads(1)
    file, batch_size = sys.argv[1], int(sys.argv[2])
    digits = load("digits")
    found = {}
    with team(torch.device("cpu")):
        # a fair step adds up many paths and magnifies rounding, which a small step keeps comparable
        for name, way, lr in (("uniform", UniformPaths(), 0.1), ("fair", FairPaths(), 0.001), ("widths", UniformPaths(), 0.01)):
            if name == "widths":  # batch norm without a scale, and weights that paths use in parts
                supernet = shuffle(digits.image_shape, 10, widths=("0.5", "1.0"), dropout=0.0)
            else:
                supernet = mbconv(digits.image_shape, 10, depths=(1, 2, 1), squeeze_excite=True)
            losses = train(supernet, way, digits.train.head(256), epochs=2, batch_size=batch_size, lr=lr, seed=3)
            found[name] = {"losses": torch.tensor([found["loss"] for found in losses]), **supernet.state_dict()}
    if rank() == 0:
        torch.save(found, file)
