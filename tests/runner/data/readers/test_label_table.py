import csv

import numpy as np
import pytest

from assay.callbacks import UsageError
from assay.runner import read_data, read_label_table


@pytest.fixture
def photos(tmp_path):
    """Return a function that writes a table beside photos/0.jpg to photos/9.jpg."""
    (tmp_path / "photos").mkdir()
    for number in range(10):
        (tmp_path / f"photos/{number}.jpg").touch()

    def write(text, name="labels.csv", encoding="utf-8"):
        (tmp_path / name).write_bytes(text.encode(encoding))
        return tmp_path / name

    return write


def found(items):
    return {item["sample_id"]: items.class_names[item["target"]] for item in items}


def labels(items):
    return {
        item["sample_id"]: [n for n, on in zip(items.class_names, item["target"], strict=True) if on] for item in items
    }


def test_a_class_for_each_image(photos):
    items = read_label_table(photos("image,label\nphotos/1.jpg,cat\nphotos/2.jpg,dog\nphotos/3.jpg,cat\n"))
    assert found(items) == {"photos/1.jpg": "cat", "photos/2.jpg": "dog", "photos/3.jpg": "cat"}
    assert (items.task, items.class_names, items.problems) == ("multiclass", ("cat", "dog"), ())
    assert items.describe() == "labels.csv by column 'label': 3 images, 2 classes; no split given"
    assert items[0]["image"].endswith("photos/1.jpg") and type(items[0]["target"]) is int


@pytest.mark.parametrize("separator", ["|", ";"])
def test_several_labels_in_a_cell(photos, separator):
    text = "image,tags\nphotos/1.jpg,cat|indoors\nphotos/2.jpg,\nphotos/3.jpg,indoors| cat |\n"
    items = read_label_table(photos(text.replace("|", separator)))
    assert labels(items) == {"photos/1.jpg": ["cat", "indoors"], "photos/2.jpg": [], "photos/3.jpg": ["cat", "indoors"]}
    assert items.task == "multilabel" and items[0]["target"].dtype == np.float32


@pytest.mark.parametrize("cells", ['"a,b"\n2,a\n3,"b, a"', "a b\n2,a\n3,b a"])
def test_labels_are_separated_by_commas_or_spaces_where_they_repeat(photos, cells):
    items = read_label_table(photos(f"id,labels\n1,{cells}\n"))
    assert labels(items) == {"photos/1.jpg": ["a", "b"], "photos/2.jpg": ["a"], "photos/3.jpg": ["a", "b"]}


def test_a_class_may_have_a_comma_or_a_space_in_its_name(photos):
    items = read_label_table(photos('image,labels\n1,"cat, small"\n2,"dog, small"\n3,golden retriever\n'))
    assert items.class_names == ("cat, small", "dog, small", "golden retriever")


def test_the_separator_can_be_given(photos):
    items = read_label_table(photos("image,label\n1,a/b\n2,b\n"), separator="/")
    assert labels(items) == {"photos/1.jpg": ["a", "b"], "photos/2.jpg": ["b"]}


def test_one_column_per_label(photos):
    text = "image,cat,dog,age\nphotos/1.jpg,1,1,three\nphotos/2.jpg,0,0,4\nphotos/3.jpg,True,false,5\n"
    items = read_label_table(photos(text))
    assert labels(items) == {"photos/1.jpg": ["cat", "dog"], "photos/2.jpg": [], "photos/3.jpg": ["cat"]}
    assert list(items.column("age")) == ["three", "4", "5"] and "age" not in items[0]
    assert items.layout == "labels.csv by one column per label, 'cat', 'dog'"


def test_one_column_per_label_with_one_label_each_holds_classes(photos):
    items = read_label_table(photos("image,cat,dog\n1,1.0,0.0\n2,0.0,1.0\n"))
    assert (found(items), items.task) == ({"photos/1.jpg": "cat", "photos/2.jpg": "dog"}, "multiclass")


def test_columns_that_mark_alone_are_empty_elsewhere(photos):
    assert labels(read_label_table(photos("image,cat,dog\n1,1,1\n2,,1\n3,,\n"))) == {
        "photos/1.jpg": ["cat", "dog"], "photos/2.jpg": ["dog"], "photos/3.jpg": []
    }  # fmt: skip


def test_a_single_column_of_0_and_1_is_yes_or_no(photos):
    items = read_label_table(photos("image,defect\n1,1\n2,0\n"))
    assert (items.task, items.class_names) == ("binary", ("no defect", "defect"))
    assert list(items.column("target")) == [1, 0]


def test_numbers_in_a_column_of_labels_are_classes(photos):
    items = read_label_table(photos("image,label\n1,10\n2,9\n3,10\n"))
    assert (items.task, items.class_names) == ("multiclass", ("9", "10"))


def test_split_and_group(photos):
    text = "file,class,subset,group\n1,a,train,p\n2,b,Validation,q\n3,a,TEST,p\n4,b,,q\n"
    items = read_label_table(photos(text))
    assert list(items.column("split")) == ["train", "valid", "test", None]
    assert [item["group"] for item in items] == ["p", "q", "p", "q"]
    assert items.describe().endswith("train 1, valid 1, test 1, without a split 1")


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_separators_encodings_and_quotes(photos, separator, encoding):
    rows = [
        ["Image", "Label"],
        ["photos/1.jpg", 'a "b", c; d'],
        ["photos/2.jpg", "two\nlines"],
        ["photos/3.jpg", "Äöß"],
    ]
    path = photos("", encoding=encoding)
    with open(path, "w", newline="", encoding=encoding) as file:
        csv.writer(file, delimiter=separator).writerows(rows)
    items = read_label_table(path, separator="\0")
    assert list(labels(items).values()) == [[row[1]] for row in rows[1:]]


def test_a_spreadsheet_says_its_separator(photos):
    items = read_label_table(photos("sep=;\r\nimage;label\r\n1;cat\r\nx;cat\r\n\r\n2;dog\r\n"))
    assert found(items) == {"photos/1.jpg": "cat", "photos/2.jpg": "dog"}
    assert items.problems == ("labels.csv, line 4: x is not there",)


def test_a_table_without_a_header(photos):
    assert found(read_label_table(photos("photos/1.jpg,cat\nphotos/2.jpg,dog\n"))) == {
        "photos/1.jpg": "cat", "photos/2.jpg": "dog"
    }  # fmt: skip


def test_an_image_is_found_by_what_names_it(photos, tmp_path):
    for name in ("a.JPG", "deep/er/b.png", "two/c.jpg", "three/c.jpg", "dotted.name.jpg", "train/d.jpg", "valid/d.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    outside = tmp_path.parent / "outside.jpg"
    outside.touch()
    names = [
        "a.jpg",
        "b",
        "three\\c.jpg",
        "dotted.name",
        str(outside),
        "./photos/../photos/1.jpg",
        "er/b",
        "c",
        "b.jpg",
    ]
    rows = [f"{name},x," for name in names] + ["d,y,valid"]
    items = read_label_table(photos("\n".join(["image,label,split", *rows])))
    assert list(items.column("image")) == [
        "a.JPG", "deep/er/b.png", "three/c.jpg", "dotted.name.jpg", str(outside), "photos/1.jpg", "valid/d.jpg"
    ]  # fmt: skip
    assert items.problems == (
        "labels.csv, line 8: deep/er/b.png again, after labels.csv, line 3; left out",
        "labels.csv, line 9: c names 2 images: three/c.jpg, two/c.jpg",
        "labels.csv, line 10: b.jpg is not there",
    )


def test_each_irregular_row_is_one_line(photos):
    text = (
        "image,label,split\n"
        "photos/1.jpg,cat,train\n"
        "photos/gone.jpg,cat,train\n"
        'photos/2.jpg,"do\ng",train\n'
        "photos/3.jpg,,train\n"
        "photos/4.jpg,cat\n"
        "photos/5.jpg,cat,tomorrow\n"
        "\n"
        "photos/1.jpg,dog,valid\n"
        ",cat,valid\n"
        "photos/6.jpg,cat,valid,more\n"
        "photos/7.jpg,cat,valid\n"
    )
    items = read_label_table(photos(text))
    assert list(found(items)) == ["photos/1.jpg", "photos/2.jpg", "photos/7.jpg"]
    assert sorted(items.problems, key=lambda line: int(line.split()[2].strip(":"))) == [
        "labels.csv, line 3: photos/gone.jpg is not there",
        "labels.csv, line 6: the label is missing; left out",
        "labels.csv, line 7: 2 cells in place of 3; left out",
        "labels.csv, line 8: split 'tomorrow' is no part of a split; left out",
        "labels.csv, line 10: photos/1.jpg again, after labels.csv, line 2; left out",
        "labels.csv, line 11: no image is named",
        "labels.csv, line 12: 4 cells in place of 3; left out",
    ]


def test_a_label_that_is_neither_0_nor_1_is_one_line(photos):
    items = read_label_table(photos("image,cat,dog\n1,1,1\n2,2,0\n3,,0\n4,0,0\n"))
    assert list(labels(items)) == ["photos/1.jpg", "photos/4.jpg"]
    assert items.problems == (
        "labels.csv, line 3: cat is '2', neither 0 nor 1; left out",
        "labels.csv, line 4: cat is '', neither 0 nor 1; left out",
    )


def test_a_file_of_names_sets_their_order(photos, tmp_path):
    (tmp_path / "classes.txt").write_text("dog\ncat\nbird\n")
    items = read_label_table(photos("image,label\n1,cat\n2,dog\n3,cow\n"))
    assert (items.class_names, list(items.column("target"))) == (("dog", "cat", "bird"), [1, 0])
    assert items.problems == ("labels.csv, line 4: label 'cow' is not in classes.txt; left out",)
    items = read_label_table(photos("image,label\n1,1|0\n2,2\n"))
    assert labels(items) == {"photos/1.jpg": ["dog", "cat"], "photos/2.jpg": ["bird"]}


def test_tables_of_a_split(photos, tmp_path):
    photos("image,label\n1,cat\n2,dog\n", "train.csv")
    photos("image,label\n3,dog\n1,dog\n", "val.csv")
    photos("image\n4\n", "test.csv")
    items = read_data(tmp_path, "classify")
    assert dict(zip(items.column("sample_id"), items.column("split"), strict=True)) == {
        "photos/1.jpg": "train", "photos/2.jpg": "train", "photos/3.jpg": "valid"
    }  # fmt: skip
    assert items.problems == (
        "val.csv, line 3: photos/1.jpg again, after train.csv, line 2; left out",
        "test.csv: left out, as it has no column 'label'",
    )


def test_a_table_in_a_folder_is_recognized(photos, tmp_path):
    photos("image,label\n1,cat\n2,dog\n", "any.csv")
    assert read_data(tmp_path, "classify").layout == "any.csv by column 'label'"
    assert found(read_data(tmp_path / "any.csv", "classify")) == {"photos/1.jpg": "cat", "photos/2.jpg": "dog"}


def test_a_table_that_is_about_something_else_is_none_of_labels(photos, tmp_path):
    photos("epoch,loss\n1,0.3\n2,0.2\n", "history.csv")
    for name in ("cat/1.jpg", "dog/2.jpg"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()
    assert read_data(tmp_path, "classify").layout == "a folder per class"


def test_two_layouts_in_one_folder_are_one_line(photos, tmp_path):
    (tmp_path / "more").mkdir()
    (tmp_path / "more/1.png").touch()
    photos("image,label\nphotos/1.jpg,cat\nphotos/2.jpg,dog\n")
    assert read_data(tmp_path, "classify").problems == (
        f"{tmp_path}: looks like a folder per class too, and is read as a table of labels (CSV)",
    )


def test_columns_without_a_name_are_numbered(photos):
    items = read_label_table(photos("image,label,,\n1,cat,,\n2,dog,,x\n"))
    assert found(items) == {"photos/1.jpg": "cat", "photos/2.jpg": "dog"}
    assert list(items.column("column 4")) == ["", "x"]


def test_columns_can_be_given(photos):
    path = photos("who,image,label,mood\n1,2,x,glad\n3,4,y,sad\n")
    items = read_label_table(path, image_column="who", label_columns=["mood"])
    assert found(items) == {"photos/1.jpg": "glad", "photos/3.jpg": "sad"}
    with pytest.raises(UsageError, match=r"unknown column of .* 'moods'; did you mean 'mood'"):
        read_label_table(path, label_columns=["moods"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"labels.csv is empty"),
        ("image,label\n", r"names no image that is there: it has no rows"),
        ("image,label\nx,a\ny,b\n", r"names no image that is there: labels.csv, line 2: x is not there"),
        ("a,b\n77,cat\n", r"no column names images: looked for 'image', 'file', 'path' and the like, found 'a', 'b'"),
        ("image,x,y\n1,red,big\n2,blue,small\n", r"no column holds labels: .* found 'image', 'x', 'y'"),
        ("image,label,label\n1,a,b\n", r"line 1: a column is named twice"),
        ('image,label\n1,"cat\n2,dog\n', r"labels.csv, line 2: unexpected end of data"),
        ("image,label\n1,\n", r"has no row with a label: labels.csv, line 2: the label is missing"),
        ("image,label\n1,caf\xe9\n", r"labels.csv, line 2: no text in UTF-8"),
    ],
)
def test_a_table_that_cannot_be_read_is_one_line(photos, text, message):
    with pytest.raises(UsageError, match=message):
        read_label_table(photos(text, encoding="latin-1"))


def test_numbers_that_are_no_classes_are_one_line(tmp_path):
    for number in range(20):
        (tmp_path / f"{number}.jpg").touch()
    (tmp_path / "ages.csv").write_text("\n".join(["image,label", *(f"{n}.jpg,{n * 0.5}" for n in range(20))]))
    with pytest.raises(UsageError, match="column 'label' has 20 values in 20 rows, which are no classes"):
        read_label_table(tmp_path / "ages.csv")


def test_a_folder_with_several_tables_is_one_line(photos, tmp_path):
    photos("image,label\n1,a\n", "one.csv")
    photos("image,label\n1,a\n", "two.tsv")
    with pytest.raises(UsageError, match=r"holds several tables, 'one.csv', 'two.tsv': give the path of one"):
        read_label_table(tmp_path)
    with pytest.raises(UsageError, match=r"found .*one.csv, photos/, two.tsv; of several tables, give the path of one"):
        read_data(tmp_path, "classify")
    with pytest.raises(UsageError, match="holds no table"):
        read_label_table(tmp_path / "photos")


@pytest.mark.parametrize(
    "cells",
    [
        ["\"['a', 'b, c']\"", "['a']", "[]"],
        ['"[""a"", ""b, c""]"', '"[""a""]"', ""],
        ["\"['a' 'b, c']\"", "[a]", "[]"],
    ],
)
def test_a_cell_may_be_a_list_as_python_json_and_numpy_write_it(photos, cells):
    rows = "".join(f"{number},{cell}\n" for number, cell in enumerate(cells))
    items = read_label_table(photos(f"image,label\n{rows}"))
    assert list(labels(items).values()) == [["a", "b, c"], ["a"], []]


def test_numbers_between_spaces_are_labels(photos):
    items = read_label_table(photos("Id,Target\n1,16 0\n2,0\n3,7 16\n"))
    assert list(labels(items).values()) == [["0", "16"], ["0"], ["7", "16"]]


def test_words_between_spaces_are_one_class_and_a_line_says_what_makes_labels_of_them(photos):
    items = read_label_table(photos("image,label\n1,a b\n2,b c\n3,a c\n4,a\n"))
    assert items.class_names == ("a", "a b", "a c", "b c")
    assert items.problems == ("labels.csv: 'a b' is one class; --label-separator ' ' makes two labels of it",)


def test_a_single_column_of_numbers_up_to_more_than_1_holds_classes(photos):
    items = read_label_table(photos("image,diagnosis\n1,0\n2,1\n3,0\n4,4\n"))
    assert (items.task, items.class_names, len(items)) == ("multiclass", ("0", "1", "4"), 4)


@pytest.mark.parametrize("yes_no", [("y", "N"), ("x", "")])
def test_marks_of_a_spreadsheet_are_yes_and_no(photos, yes_no):
    yes, no = yes_no
    items = read_label_table(photos(f"image,cat,dog\n1,{yes},{yes}\n2,{no},{yes}\n3,{no},{no}\n"))
    assert list(labels(items).values()) == [["cat", "dog"], ["dog"], []]


@pytest.mark.parametrize("other", ["Cat", "c at"])
def test_classes_that_are_written_nearly_alike_are_one_line(photos, other):
    items = read_label_table(photos(f"image,label\n1,cat\n2,{other}\n"))
    assert len(items.class_names) == 2
    assert items.problems[0].endswith("differ by case or spaces alone, and are two")


def test_is_valid_is_a_split(photos):
    items = read_label_table(photos("fname,labels,is_valid\n1,a,False\n2,b,True\n3,b,False\n4,a,?\n"))
    assert list(items.column("split")) == ["train", "valid", "train"]
    assert items.problems == ("labels.csv, line 5: is_valid '?' is no part of a split; left out",)


def test_a_table_without_a_header_may_have_its_columns_in_any_order_and_a_split(photos):
    items = read_label_table(photos("cat,photos/1.jpg,train\ndog,photos/2.jpg,val\n"))
    assert found(items) == {"photos/1.jpg": "cat", "photos/2.jpg": "dog"}
    assert list(items.column("split")) == ["train", "valid"]
    with pytest.raises(UsageError, match="line 1: it names an image: put a line with the names of the columns above"):
        read_label_table(photos("photos/1.jpg,cat,12\nphotos/2.jpg,dog,13\n"))


def test_a_column_is_known_by_the_images_that_are_there(photos):
    assert found(read_label_table(photos("id_code,diagnosis\n1,mild\n2,none\n"))) == {
        "photos/1.jpg": "mild", "photos/2.jpg": "none"
    }  # fmt: skip


def test_a_path_of_another_machine_is_found_by_its_end(photos, tmp_path):
    (tmp_path / "more").mkdir()
    (tmp_path / "more/1.jpg").touch()
    items = read_label_table(
        photos("image,label\n/data/set/photos/1.jpg,a\nC:\\data\\more\\1.jpg,b\n/data/x/2.jpg,b\n")
    )
    assert found(items) == {"photos/1.jpg": "a", "more/1.jpg": "b", "photos/2.jpg": "b"}


def test_an_image_that_is_missing_is_not_taken_from_the_folder_of_another_class(photos, tmp_path):
    for name in ("cat/1.jpg", "dog/1.jpg", "dog/20.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    items = read_label_table(photos("image,label\ncat/1.jpg,cat\ncat/20.jpg,cat\ndog/1.jpg,dog\ndog/20.jpg,dog\n"))
    assert found(items) == {"cat/1.jpg": "cat", "dog/1.jpg": "dog", "dog/20.jpg": "dog"}
    assert items.problems == ("labels.csv, line 3: cat/20.jpg is not there",)


def test_tables_whose_names_hold_a_part_are_parts_of_a_split(photos, tmp_path):
    photos("image,label\n1,a\n2,b\n", "train_labels.csv")
    photos("image,label\n3,a\n", "labels-val.csv")
    assert list(read_data(tmp_path, "classify").column("split")) == ["train", "train", "valid"]


def test_a_table_in_the_folder_of_each_part_is_read_as_roboflow_writes_it(tmp_path):
    for part, rows in (("train", "a.jpg, 1, 1\nb.jpg, 0, 1\n"), ("valid", "a.jpg, 1, 0\nc.jpg, 0, 0\n")):
        (tmp_path / part).mkdir()
        for name in ("a.jpg", "b.jpg"):
            (tmp_path / part / name).touch()
        (tmp_path / part / "_classes.csv").write_text(f"filename, cat, dog\n{rows}")
    items = read_data(tmp_path, "classify")
    assert labels(items) == {"train/a.jpg": ["cat", "dog"], "train/b.jpg": ["dog"], "valid/a.jpg": ["cat"]}
    assert items.problems == ("valid/_classes.csv, line 3: c.jpg is not there",)
