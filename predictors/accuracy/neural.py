"""The two neural predictors of PNAS: for cells of any number of blocks, also more than they were fitted on, and for any other space.

Liu et al., "Progressive Neural Architecture Search", 2017, arXiv 1712.00559. `CellLSTM` reads four tokens a block with an LSTM;
`CellMLP` averages the embedded blocks and asks a perceptron. Both minimise the absolute error; put five into an `Ensemble`, as
the paper does. `OptionLSTM` and `OptionMLP` are the same two over a space of choices, one token a choice.

Departures: the output is linear over standardised targets instead of a sigmoid, so that any fitness will do and the paper's initial bias
for accuracies near .86 is not needed; every fit is from scratch at one learning rate. An LSTM state is computed once for each
distinct beginning among the cells it is asked about, which is exact, and what makes 300,000 children of 256 parents affordable.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from evonas.cells import cell_blocks, cell_sizes
from evonas.space import Population, SearchSpace

Floats = npt.NDArray[np.float64]

CHUNK = 1 << 14


class _TokenRegressor(RegressorMixin, BaseEstimator):
    """Fits a network by full-batch Adam on the absolute error; a subclass says which network, and what it reads.

    Args:
        space: of the architectures; for a `Cell...` predictor one of `evonas.cells.cell_space`.
        embedding: width of the token embeddings.
        hidden: width of the hidden layers.
        lr: of Adam.
        steps: of Adam; each sees all cells.
        random_state: seeds the initial weights.
    """

    def __init__(
        self, space: SearchSpace, *, embedding: int = 100, hidden: int = 100, lr: float = 0.01, steps: int = 100, random_state: int = 0
    ) -> None:
        self.space = space
        self.embedding = embedding
        self.hidden = hidden
        self.lr = lr
        self.steps = steps
        self.random_state = random_state

    def _network(self) -> nn.Module:
        raise NotImplementedError

    def _inputs(self, population: Population) -> tuple[Tensor, ...]:
        """What the network reads: tensors with a row for each architecture."""
        raise NotImplementedError

    def fit(self, X: Any, y: Any) -> _TokenRegressor:
        """Fit from scratch.

        Args:
            X: architectures, shape (n, choices).
            y: targets, shape (n,).
        """
        inputs, y = self._inputs(np.asarray(X, dtype=np.int64)), np.asarray(y, dtype=np.float64)
        self.network_: Any
        self.mean_, self.scale_ = float(y.mean()), float(y.std()) or 1.0
        targets = torch.tensor((y - self.mean_) / self.scale_, dtype=torch.float32)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.random_state)
            self.network_ = self._network()
            optimiser = torch.optim.Adam(self.network_.parameters(), self.lr)
            for _ in range(self.steps):
                optimiser.zero_grad()
                (self.network_(*inputs) - targets).abs().mean().backward()
                nn.utils.clip_grad_norm_(self.network_.parameters(), 5.0)
                optimiser.step()
        return self

    def predict(self, X: Any) -> Floats:
        """Predictions, shape (n,)."""
        check_is_fitted(self)
        with torch.inference_mode():
            predictions = self._predict(np.asarray(X, dtype=np.int64))
        return np.asarray(self.mean_ + self.scale_ * predictions)

    def _predict(self, population: Population) -> Floats:
        inputs = self._inputs(population)
        parts = [self.network_(*(part[i : i + CHUNK] for part in inputs)) for i in range(0, len(population), CHUNK)]
        return np.asarray(torch.cat(parts).numpy(), dtype=np.float64)


class _CellRegressor(_TokenRegressor):
    def _inputs(self, population: Population) -> tuple[Tensor, ...]:
        return torch.from_numpy(cell_blocks(population)), torch.from_numpy(cell_sizes(population))

    def _sizes(self) -> tuple[int, int]:
        """Inputs and operations that the last block may take."""
        last = self.space.choices[-4:]
        return len(last[0].options), len(last[2].options)


class _OptionRegressor(_TokenRegressor):
    def _inputs(self, population: Population) -> tuple[Tensor, ...]:
        offsets = np.concatenate([[0], np.cumsum(self.space.sizes)[:-1]])
        return (torch.from_numpy(self.space.canonical(population) + offsets),)


class OptionMLP(_OptionRegressor):
    """The embedded options side by side, then two hidden layers."""

    def _network(self) -> nn.Module:
        return nn.Sequential(
            nn.Embedding(int(self.space.sizes.sum()), self.embedding),
            nn.Flatten(),
            *_perceptron(len(self.space) * self.embedding, self.hidden),
            nn.Flatten(0),
        )


class OptionLSTM(_OptionRegressor):
    """An LSTM over the options in the order of their choices; its last state gives the prediction."""

    def _network(self) -> nn.Module:
        return _OptionSequence(int(self.space.sizes.sum()), self.embedding, self.hidden)


class CellMLP(_CellRegressor):
    """The embedded blocks of a cell averaged, then two hidden layers."""

    def _network(self) -> nn.Module:
        return _Averaged(*self._sizes(), self.embedding, self.hidden)


class CellLSTM(_CellRegressor):
    """An LSTM over the tokens input1, input2, op1, op2 of every block; its last state gives the prediction."""

    def _network(self) -> nn.Module:
        return _Recurrent(*self._sizes(), self.embedding, self.hidden)

    def _predict(self, cells: Population) -> Floats:
        """One walk over the tokens of all cells, with one state for every distinct beginning."""
        network = self.network_
        lengths = 4 * cell_sizes(cells)
        tokens = cell_blocks(cells).reshape(len(cells), -1)
        predictions = np.zeros(len(cells))
        hidden = carried = torch.zeros(1, self.hidden)
        of = np.zeros(len(cells), dtype=np.int64)  # which state each cell is in
        for t in range(int(lengths.max(initial=0))):
            width = int(tokens[:, t].max()) + 1
            distinct, of = np.unique(of * width + tokens[:, t], return_inverse=True)
            before, token = torch.from_numpy(distinct // width), torch.from_numpy(distinct % width)
            chunks = [slice(i, i + CHUNK) for i in range(0, len(token), CHUNK)]
            steps = [network.step(token[part], t, hidden[before[part]], carried[before[part]]) for part in chunks]
            hidden, carried = (torch.cat(part) for part in zip(*steps, strict=True))
            ended = lengths == t + 1
            predictions[ended] = network.head(hidden).squeeze(1).numpy()[of[ended]]
        return predictions


class _Embedded(nn.Module):
    """One embedding for inputs and one for operations, shared by all blocks."""

    def __init__(self, inputs: int, operations: int, width: int) -> None:
        super().__init__()
        self.inputs, self.operations = nn.Embedding(inputs, width), nn.Embedding(operations, width)
        for part in (self.inputs, self.operations):
            nn.init.uniform_(part.weight, -0.1, 0.1)

    def forward(self, blocks: Tensor) -> Tensor:
        """Shape (n, blocks, 4) to (n, blocks, 4, width)."""
        return torch.cat([self.inputs(blocks[..., :2]), self.operations(blocks[..., 2:])], dim=-2)


def _perceptron(inputs: int, hidden: int) -> list[nn.Module]:
    return [nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, 1)]


class _OptionSequence(nn.Module):
    def __init__(self, tokens: int, width: int, hidden: int) -> None:
        super().__init__()
        self.embedded = nn.Embedding(tokens, width)
        nn.init.uniform_(self.embedded.weight, -0.1, 0.1)
        self.lstm = nn.LSTM(width, hidden, batch_first=True)
        self.head = nn.Linear(hidden, 1)

    def forward(self, tokens: Tensor) -> Tensor:
        states, _ = self.lstm(self.embedded(tokens))
        predicted: Tensor = self.head(states[:, -1]).squeeze(1)
        return predicted


class _Averaged(nn.Module):
    def __init__(self, inputs: int, operations: int, width: int, hidden: int) -> None:
        super().__init__()
        self.embedded = _Embedded(inputs, operations, width)
        self.head = nn.Sequential(*_perceptron(4 * width, hidden))

    def forward(self, blocks: Tensor, sizes: Tensor) -> Tensor:
        there = (torch.arange(blocks.shape[1]) < sizes[:, None]).float()
        mean = (self.embedded(blocks).flatten(2) * there[..., None]).sum(dim=1) / sizes[:, None]
        predicted: Tensor = self.head(mean).squeeze(1)
        return predicted


class _Recurrent(nn.Module):
    def __init__(self, inputs: int, operations: int, width: int, hidden: int) -> None:
        super().__init__()
        self.embedded = _Embedded(inputs, operations, width)
        self.lstm = nn.LSTM(width, hidden, batch_first=True)
        self.head = nn.Linear(hidden, 1)

    def forward(self, blocks: Tensor, sizes: Tensor) -> Tensor:
        longest = int(sizes.max())
        states, _ = self.lstm(self.embedded(blocks[:, :longest]).flatten(1, 2))
        predicted: Tensor = self.head(states[torch.arange(len(sizes)), 4 * sizes - 1]).squeeze(1)
        return predicted

    def step(self, token: Tensor, position: int, hidden: Tensor, carried: Tensor) -> tuple[Tensor, Tensor]:
        """One token at `position` of the cell: the states after it, each of shape (n, hidden)."""
        part = self.embedded.inputs if position % 4 < 2 else self.embedded.operations
        _, (after, memory) = self.lstm(part(token)[:, None], (hidden[None], carried[None]))
        return after[0], memory[0]
