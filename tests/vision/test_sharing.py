"""One copy of a prompt's images for all responses to it."""

from types import SimpleNamespace

import torch

from kimi_plugins.vision.sharing import share_inputs


def response(*values, images=("a.png",)):
    inputs = {"pixel_values": torch.tensor(values), "grid": torch.tensor([1, 2])} if values else None
    return SimpleNamespace(mm_train_inputs=[inputs], images=[list(images)])


def test_equal_inputs_are_one_object_and_others_stay():
    group = [response(1.0, 2.0), response(1.0, 2.0), response(1.0, 3.0), response(), response(1.0, 2.0)]
    other_name = response(1.0, 2.0)
    other_name.mm_train_inputs[0]["more"] = torch.zeros(1)
    share_inputs([*group, other_name])
    first = group[0].mm_train_inputs[0]
    assert [one.mm_train_inputs[0] is first for one in group] == [True, True, False, False, True]
    assert group[1].images[0] is group[0].images[0] and group[3].mm_train_inputs == [None]
    assert group[2].mm_train_inputs[0]["pixel_values"].tolist() == [1.0, 3.0]
    assert other_name.mm_train_inputs[0] is not first


def test_texts_have_none():
    group = [SimpleNamespace(mm_train_inputs=[], images=[]) for _ in range(2)]
    share_inputs(group)
    assert [one.mm_train_inputs for one in group] == [[], []]
