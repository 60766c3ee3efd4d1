"""Components without what stands around them."""

import torch

from assay.callbacks.unwrapped import detached


def test_the_boxes_of_a_detector_are_kept_without_their_graph():
    scores = torch.ones(2, requires_grad=True) * 2
    kept = detached([{"scores": scores, "sizes": (scores, 3), "name": "a"}])
    assert not kept[0]["scores"].requires_grad and not kept[0]["sizes"][0].requires_grad
    assert kept[0]["scores"].data_ptr() == scores.data_ptr()
    assert (kept[0]["sizes"][1], kept[0]["name"]) == (3, "a")
