"""The same boxes in every layout: COCO to YOLO to VOC to CSV and back."""

import numpy as np
from box_files import BOXES, CLASSES, SIZES, boxes_of, write_box_csv, write_coco, write_images, write_voc, write_yolo

from assay.runner import read_box_table, read_coco, read_voc, read_yolo


def check(items):
    """Check that items are those of ``BOXES``, and return their boxes."""
    found = boxes_of(items)
    assert items.problems == ()
    assert items.class_names == ("background", *CLASSES)
    assert found.keys() == BOXES.keys()
    for name, of in BOXES.items():
        # The last decimal of a YOLO file is a millionth of the image's side.
        both = (np.reshape(sorted(boxes), (-1, 5)) for boxes in (found[name], of))
        np.testing.assert_allclose(*both, atol=1e-3)
    return found


def test_boxes_stay_the_same_from_coco_to_yolo_to_voc_to_csv_and_back(tmp_path):
    for layout in ("coco", "yolo/images", "voc/JPEGImages", "csv"):
        write_images(tmp_path / layout)
    write_coco(tmp_path / "coco/annotations.json", BOXES, SIZES)
    boxes = check(read_coco(tmp_path / "coco"))
    assert boxes == {name: [tuple(map(float, box)) for box in of][::-1] for name, of in BOXES.items()}

    write_yolo(tmp_path / "yolo/labels", boxes, SIZES)
    (tmp_path / "yolo/classes.txt").write_text("\n".join(CLASSES))
    boxes = check(read_yolo(tmp_path / "yolo"))

    write_voc(tmp_path / "voc/Annotations", boxes, SIZES)
    boxes = check(read_voc(tmp_path / "voc"))

    write_box_csv(tmp_path / "csv/boxes.csv", boxes)
    boxes = check(read_box_table(tmp_path / "csv"))

    write_coco(tmp_path / "coco/annotations.json", boxes, SIZES)
    check(read_coco(tmp_path / "coco/annotations.json"))
