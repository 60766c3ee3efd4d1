"""Read boxes from the XML files of Pascal VOC.

By ``xml.etree``: it fetches no external entity, and expat, which it is made of, ends one that grows without end.
"""

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree
from xml.parsers import expat

from assay.callbacks.errors import UsageError

from .box_records import BoxRecords, Sides
from .class_names import in_order, read_class_names, read_text
from .folder_tree import FolderTree, join, shown_paths, split_of
from .image_finder import ImageFinder
from .item_list import ItemList

_ANNOTATIONS = ("annotations", "annotation", "xml", "xmls", "labels")  # names of folders, in lower case
_IMAGES = ("JPEGImages", "images", "Images", "image", "imgs", "img")
_LISTS = os.path.join("ImageSets", "Main")
_CLASS_FILES = ("classes.txt", "labels.txt", "predefined_classes.txt")
_FLAG = re.compile(r"\s+-?[01]$")  # behind an id, in the list of a class


class _Object(NamedTuple):
    """An object of an XML file: its number in it from 1 on, class and corners as they stand."""

    number: int
    name: str
    corners: Sides


class _Annotation(NamedTuple):
    """An XML file: its path, the name of its image, width and height as stated, objects, and lines about it."""

    path: str
    filename: str
    stated: tuple[int, int] | None
    objects: list[_Object]
    problems: list[str]


def read_voc(path: str | os.PathLike[str], *, first_pixel: int | None = None) -> ItemList:
    """Read the boxes of a data set in the form of Pascal VOC.

    ``path`` is a folder, or one that holds several such (``VOC2007``, ``VOC2012``)::

        Annotations/a.xml   JPEGImages/a.jpg (or images/...)   ImageSets/Main/train.txt   ImageSets/Main/val.txt

    or one with XML files beside their images, with or without folders ``train``, ``valid`` and ``test``. The image of
    an XML file has its name, or else that in ``filename``. An image without an XML file is left out: nothing says that
    it is without objects, as a file without ``object`` does. Parts come from ``ImageSets/Main``, else from the folders'
    names; ``trainval.txt`` counts where there is no ``train.txt``, as images without a part. Classes are sorted by
    name, unless ``classes.txt`` names them in order.

    VOC counts pixels from 1, and a box holds the pixels ``xmin`` to ``xmax``. So its left side is at ``xmin - 1`` and
    its right one at ``xmax``, in pixels from the image's left edge, as Detectron2 reads them. Many tools write
    distances from the edge instead; where a box of the data set begins at 0, all are read so, and ``problems`` says it.

    A box whose corners are in one column or row of pixels, as a mere click leaves it, is one without a size. Objects
    marked ``difficult`` are objects as the others; a line counts them.

    Args:
        path: the folder.
        first_pixel: 1 where files count pixels from 1, 0 where they give distances from the edge; None: see above.

    Returns:
        Items with ``image``, ``bboxes``, ``labels`` and ``split``.

    Raises:
        UsageError: there is no XML file of an annotation, or nothing is left to learn from.
    """
    if first_pixel not in (None, 0, 1):
        raise UsageError(f"first_pixel must be 0, 1 or None, got {first_pixel!r}.")
    root = os.fspath(path)
    files = _xml_files(root)
    if not files:
        raise UsageError(f"{root} holds no XML file: looked for Annotations/*.xml, and *.xml beside images.")
    annotations, problems = _read_all(root, files)
    first = first_pixel if first_pixel is not None else _first_pixel(annotations, problems)
    names, label_of = _class_labels(root, annotations)
    splits, more = _splits(root, files)
    added: list[str] = []  # the XML file of each image
    records = BoxRecords(root, lambda image, entry: f"{added[image]}, line {_object_line(root, added[image], entry)}")
    records.problems += problems + more
    finder, taken = ImageFinder(root), set()
    for one in annotations:
        image = _image_of(finder, one)
        taken.add(image)
        if image is None:
            records.problems.append(
                f"{one.path}: its image {one.filename or Path(one.path).stem} is not there; left out"
            )
        elif splits is None or one.path in splits:
            split = splits[one.path] if splits is not None else _split_by_folder(one.path)
            number = records.add_image(image, one.path, split=split, stated=one.stated)
            if number is not None:
                added.append(one.path)
                _add_objects(records, number, one, label_of, first)
    unlisted = [one.path for one in annotations if splits is not None and one.path not in splits]
    records.problems += _left_out("XML files are in no list of ImageSets/Main", unlisted)
    records.problems += _left_out("images have no XML file", [one for one in _all_images(root) if one not in taken])
    return records.to_items("Pascal VOC", names)


def looks_like(path: Path) -> bool:
    """Whether a path is a folder with XML files of annotations."""
    first = next(iter(_xml_files(os.fspath(path), most=1)), None) if path.is_dir() else None
    return first is not None and "<annotation" in (path / first).read_text(errors="replace")[:2000]


def _xml_files(root: str, most: int | None = None) -> list[str]:
    """Return the XML files below a folder, sorted; links are followed, and hidden ones are left out."""
    found: list[str] = []
    for folder, folders, names in os.walk(root, followlinks=False):
        folders[:] = sorted(name for name in folders if not name.startswith((".", "__MACOSX")))
        shown = os.path.relpath(folder, root)
        found += [
            join("" if shown == "." else shown, name)
            for name in sorted(names)
            if name.lower().endswith(".xml") and not name.startswith(".")
        ]
        if most is not None and len(found) >= most:
            break
    return found


def _read_all(root: str, files: Iterable[str]) -> tuple[list[_Annotation], list[str]]:
    """Return what the files hold, and a line for each that is no annotation."""
    annotations, problems, difficult = [], [], 0
    for file in files:
        try:
            tree = ElementTree.parse(os.path.join(root, file)).getroot()
        except ElementTree.ParseError as error:
            line, reason = error.position[0], str(error).partition(": line")[0]
            problems.append(f"{file}, line {line}: no XML: {reason}; left out")
            continue
        except (OSError, ValueError, LookupError) as error:  # also an encoding that Python does not know
            problems.append(f"{file}: cannot be read: {error}; left out")
            continue
        if tree.tag != "annotation":
            problems.append(f"{file}: its root is {tree.tag!r} and not 'annotation'; left out")
            continue
        annotations.append(_parse(file, tree, root))
        problems += annotations[-1].problems
        difficult += sum((of.findtext("difficult") or "").strip() == "1" for of in tree.findall("object"))
    if difficult:
        problems.append(f"{difficult:,} objects are marked difficult, and count as the others do")
    return annotations, problems


def _parse(file: str, tree: ElementTree.Element, root: str) -> _Annotation:
    objects, problems = [], []
    for number, one in enumerate(tree.findall("object"), 1):
        name, corners = (one.findtext("name") or "").strip(), _corners(one)
        if name and corners is not None:
            objects.append(_Object(number, name, corners))
            continue
        why = "a class without a name" if not name else "bndbox must hold xmin, ymin, xmax and ymax as numbers"
        problems.append(f"{file}, line {_object_line(root, file, number)}: {why}; left out")
    filename = (tree.findtext("filename") or "").strip().replace("\\", "/").rpartition("/")[2]
    return _Annotation(file, filename, _stated_size(tree), objects, problems)


def _corners(one: ElementTree.Element) -> Sides | None:
    try:
        left, top, right, bottom = (float(one.findtext(f"bndbox/{name}") or "") for name in _CORNERS)
    except ValueError:
        return None
    return left, top, right, bottom


_CORNERS = ("xmin", "ymin", "xmax", "ymax")


def _stated_size(tree: ElementTree.Element) -> tuple[int, int] | None:
    if tree.find("size") is None:
        return None
    try:
        width, height = (int(float(tree.findtext(f"size/{name}") or 0)) for name in ("width", "height"))
    except (ValueError, OverflowError):
        return 0, 0
    return width, height


def _object_line(root: str, file: str, number: int) -> int:
    """Return the line in which an object of a file begins; ``ElementTree`` does not tell."""
    lines: list[int] = []
    parser = expat.ParserCreate()
    depth = 0

    def start(name: str, _: Mapping[str, str]) -> None:
        nonlocal depth
        depth += 1
        if depth == 2 and name == "object":
            lines.append(parser.CurrentLineNumber)

    def end(_: str) -> None:
        nonlocal depth
        depth -= 1

    parser.StartElementHandler, parser.EndElementHandler = start, end
    with open(os.path.join(root, file), "rb") as content:
        parser.ParseFile(content)
    return lines[number - 1]


def _first_pixel(annotations: Sequence[_Annotation], problems: list[str]) -> int:
    """Return the number of the first pixel: 1 as VOC has it, unless a box begins before it."""
    at_zero = [one.path for one in annotations if any(0 <= side < 1 for of in one.objects for side in of.corners[:2])]
    if not at_zero:
        return 1
    problems.append(
        f"boxes begin at 0 in {len(at_zero):,} files, such as {at_zero[0]}, and not at 1 as VOC has it: all corners "
        "are read as distances from the image's edge"
    )
    return 0


def _class_labels(root: str, annotations: Sequence[_Annotation]) -> tuple[list[str], dict[str, int]]:
    """Return the names of the classes in order, and the label of each."""
    file = next((one for one in _CLASS_FILES if os.path.isfile(os.path.join(root, one))), None)
    found = {of.name for one in annotations for of in one.objects}
    names = read_class_names(os.path.join(root, file)) if file else in_order(found)
    return names, {name: label for label, name in enumerate(names, 1)}


def _add_objects(
    records: BoxRecords, image: int, annotation: _Annotation, label_of: Mapping[str, int], first: int
) -> None:
    for number, name, corners in annotation.objects:
        left, top, right, bottom = corners
        if name not in label_of:
            problem = f"class {name!r} is not in the file of the classes' names"
        elif right <= left or bottom <= top:
            shown = ", ".join(f"{corner:.6g}" for corner in corners)
            problem = f"the box [{shown}] has no area: xmax must be greater than xmin, and ymax than ymin"
        else:
            records.add_box(image, (left - first, top - first, right, bottom), label_of[name], number)
            continue
        records.problems.append(f"{records.place_of(image, number)}: {problem}; left out")


def _image_of(finder: ImageFinder, annotation: _Annotation) -> str | None:
    """Return the image of an XML file: the one with its name, or else with the name that it states."""
    folder, name = os.path.split(annotation.path)
    for stem in (os.path.splitext(name)[0], os.path.splitext(annotation.filename)[0]):
        for one in _image_folders(folder):
            found = finder.find(join(one, stem))[0] if stem else None
            if found is not None:
                return found
    return None


def _all_images(root: str) -> list[str]:
    tree = FolderTree(root)
    tree.claim([""])
    return tree.images_below("")


def _image_folders(folder: str) -> Iterator[str]:
    """Yield the folders in which the images of XML files in a folder may lie: the same, or one beside it."""
    yield folder
    parts = folder.split("/")
    for place, part in enumerate(parts):
        if part.lower() in _ANNOTATIONS:
            for name in _IMAGES:
                yield "/".join((*parts[:place], name, *parts[place + 1 :]))
            yield "/".join((*parts[:place], *parts[place + 1 :]))


def _split_by_folder(file: str) -> str | None:
    return next((split for name in file.split("/")[:-1] if (split := split_of(name))), None)


def _splits(root: str, files: Sequence[str]) -> tuple[dict[str, str | None] | None, list[str]]:
    """Return the part of each XML file that ImageSets/Main lists, None without lists; and lines about them."""
    by_id: dict[tuple[str, str], str] = {}
    for file in files:
        folder, name = os.path.split(file)
        by_id[_data_set_of(folder), os.path.splitext(name)[0]] = file
    splits: dict[str, str | None] = {}
    problems: list[str] = []
    lists = list(_lists(root, sorted({of for of, _ in by_id})))
    for of, file, split in lists:
        for number, line in enumerate(read_text(os.path.join(root, file)).splitlines(), 1):
            if not (name := line.strip()):
                continue
            found = by_id.get((of, name)) or by_id.get((of, _FLAG.sub("", name)))
            place = f"{file}, line {number}"
            if found is None:
                problems.append(f"{place}: {name} has no XML file; left out")
            elif found in splits:
                problems.append(f"{place}: {name} is in the list of {splits[found]} already; left out")
            else:
                splits[found] = split
    return (splits if lists else None), problems


def _data_set_of(folder: str) -> str:
    """Return the folder that holds ``Annotations`` and ``ImageSets``, of one with XML files."""
    parts = folder.split("/")
    place = next((place for place, part in enumerate(parts) if part.lower() in _ANNOTATIONS), len(parts))
    return "/".join(parts[:place])


def _lists(root: str, data_sets: Iterable[str]) -> Iterator[tuple[str, str, str | None]]:
    """Yield the lists of images: the data set, the file and the part."""
    for of in data_sets:
        folder = os.path.join(of, _LISTS)
        names = {"train.txt": "train", "val.txt": "valid", "valid.txt": "valid", "test.txt": "test"}
        there = [name for name in names if os.path.isfile(os.path.join(root, folder, name))]
        for name in there:
            yield of, os.path.join(folder, name), names[name]
        whole = os.path.join(folder, "trainval.txt")
        if "train.txt" not in there and os.path.isfile(os.path.join(root, whole)):
            yield of, whole, None


def _left_out(what: str, paths: list[str]) -> list[str]:
    """Return a line about files that are left out; none where there is none."""
    return [f"{len(paths):,} {what}, and are left out: {shown_paths(paths)}"] if paths else []
