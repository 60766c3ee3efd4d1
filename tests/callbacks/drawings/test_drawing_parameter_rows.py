import pytest

from assay.callbacks.drawings.parameter_rows import MOST_ROWS, group_parameters


def resnet():
    """The names of the parameters of a network as ResNet-50 has them."""
    names = ["conv1.weight", "bn1.weight", "bn1.bias"]
    for layer, blocks in enumerate((3, 4, 6, 3), start=1):
        for block in range(blocks):
            names += [f"layer{layer}.{block}.{part}{i}.weight" for i in (1, 2, 3) for part in ("conv", "bn")]
            names += [f"layer{layer}.{block}.bn{i}.bias" for i in (1, 2, 3)]
    return [*names, "fc.weight", "fc.bias"]


def rows_of(names, most=MOST_ROWS):
    return [(row.name, row.count) for row in group_parameters(names, most)]


def test_the_blocks_of_a_network_are_rows_where_there_is_room():
    rows = rows_of(resnet(), most=19)
    assert rows[:4] == [("conv1.weight", 1), ("bn1", 2), ("layer1.0", 9), ("layer1.1", 9)]
    assert rows[-2:] == [("layer4.2", 9), ("fc", 2)]
    assert len(rows) == 19


@pytest.mark.parametrize("most", [1, 2, 3, 7, 12, 20, 500])
@pytest.mark.parametrize("names", [resnet(), [str(i) for i in range(30)], ["weight"], ["a.b.c.w", "a.b.c.b"]])
def test_every_parameter_is_in_one_row_and_there_are_at_most_so_many(most, names):
    rows = rows_of(names, most)
    assert sum(count for _, count in rows) == len(names)
    assert len(rows) <= most
    assert all(name for name, _ in rows)


def test_few_parameters_have_a_row_each_by_their_whole_names():
    assert rows_of(["0.weight", "0.bias", "2.weight"]) == [("0.weight", 1), ("0.bias", 1), ("2.weight", 1)]


def test_many_blocks_are_joined_to_runs_that_name_the_first_and_the_last():
    names = [f"blocks.{index}.{part}" for index in range(48) for part in ("weight", "bias")]
    rows = rows_of(names, most=4)
    assert rows == [(f"blocks.{start} … {start + 11}", 24) for start in (0, 12, 24, 36)]


def test_a_module_that_stays_whole_has_its_own_name():
    names = ["stem.w", *(f"body.{index}.w" for index in range(9))]
    assert rows_of(names, most=2) == [("stem.w", 1), ("body", 9)]
    assert rows_of(["a.x.w", "a.x.b", "b.y.w"], most=1) == [("a … b", 3)]
