"""The teacher: who it may be, that networks learn from it, and that a checkpoint belongs to its teacher."""

import pytest
import torch

from evonas import UsageError
from recipes.runner.final_training import FinalTraining
from recipes.runner.teacher import given
from supernet import StandAlone, mbconv
from supernet.training import loop

SETTINGS = {"epochs": 2, "lr": 0.1, "batch_size": 128, "seed": 3}


@pytest.fixture
def training(digits):
    supernet = mbconv(digits.image_shape, 10, depths=(1, 1, 1), widths=(8, 8, 8))
    return lambda **more: FinalTraining(supernet, StandAlone(), digits, False, SETTINGS, **more)


def test_nobody_teaches_unless_told(digits):
    assert [given(name, digits) for name in (None, "none", "largest")] == [None, None, None]


def test_the_network_of_a_finished_run_teaches(digits, tmp_path, monkeypatch):
    (tmp_path / "model.pt").touch()
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))
    monkeypatch.setattr("recipes.runner.teacher.load_model", lambda path: network)
    assert given(str(tmp_path), digits) is network


def test_a_folder_without_a_finished_run_is_refused(digits, tmp_path):
    with pytest.raises(UsageError, match=r"no finished run in .*; expected --teacher largest, none, or the folder"):
        given(str(tmp_path), digits)


@pytest.mark.parametrize("logits", [3, None])
def test_a_teacher_of_other_data_is_refused(digits, tmp_path, monkeypatch, logits):
    (tmp_path / "model.pt").touch()
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, logits)) if logits else torch.nn.Conv2d(3, 10, 1)
    monkeypatch.setattr("recipes.runner.teacher.load_model", lambda path: network)
    with pytest.raises(UsageError, match=r"does not take images of shape \(1, 8, 8\) to 10 classes"):
        given(str(tmp_path), digits)


def test_what_is_trained_after_the_teacher_learns_from_it(training, tmp_path):
    """With a weight of half in the loss: another network than without, and the same one as with the same teacher from a file."""
    alone, taught = training(), training()
    plain = alone.full(tmp_path / "plain.pt", "", (0, 0, 0)).state_dict()
    teacher = taught.teach(tmp_path / "teacher.pt", (5, 5, 5))
    found = taught.full(tmp_path / "taught.pt", "", (0, 0, 0)).state_dict()
    again = training(teacher=teacher).full(tmp_path / "given.pt", "", (0, 0, 0)).state_dict()
    assert all(torch.equal(found[name], again[name]) for name in found)
    assert any(not torch.equal(found[name], plain[name]) for name in found)
    expected = alone.full(tmp_path / "alone.pt", "", (5, 5, 5)).state_dict()  # a teacher itself learns from labels
    assert all(torch.equal(teacher.state_dict()[name], expected[name]) for name in expected)


def test_a_killed_teacher_goes_on_and_a_checkpoint_belongs_to_its_teacher(training, tmp_path, monkeypatch):
    whole = training().teach(tmp_path / "whole.pt", (5, 5, 5)).state_dict()
    save = loop.save_checkpoint

    def killed(path, *content):
        save(path, *content)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(loop, "save_checkpoint", killed)
        with pytest.raises(KeyboardInterrupt):
            training().teach(tmp_path / "teacher.pt", (5, 5, 5))
    taught = training()
    resumed = taught.teach(tmp_path / "teacher.pt", (5, 5, 5)).state_dict()
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    taught.full(tmp_path / "student.pt", "", (0, 0, 0))
    with pytest.raises(UsageError):
        training().full(tmp_path / "student.pt", "", (0, 0, 0))
