import pytest

from assay.callbacks.errors import UsageError, listing, unknown_name
from assay.callbacks.keys import pick


def test_pick_returns_what_stands_under_the_key():
    assert pick({"image": 1, "target": None}, "target", "Metrics") is None


def test_a_missing_key_lists_the_keys_that_exist_and_who_asked():
    with pytest.raises(UsageError) as caught:
        pick({"target": 1, "image": 2}, "logits", "Metrics(output_key='logits')")
    message = "Metrics(output_key='logits') asks for key 'logits', which the batch lacks; it has 'image', 'target'."
    assert str(caught.value) == message


def test_a_missing_key_of_an_empty_mapping_says_nothing():
    with pytest.raises(UsageError, match="which the metrics lacks; it has nothing"):
        pick({}, "loss", "BestWorstBatches", source_name="metrics")


def test_listing_sorts_and_quotes_names_of_any_type():
    assert listing(["b", 3, "a"]) == "'3', 'a', 'b'"


def test_an_unknown_name_gets_the_nearest_spelling_whatever_its_case():
    error = unknown_name("metric", "Acuracy", ["accuracy", "F1"])
    assert str(error) == "unknown metric 'Acuracy'; did you mean 'accuracy'? There is: 'F1', 'accuracy'."
    assert isinstance(error, ValueError)


def test_an_unknown_name_with_nothing_near_gets_the_list_alone():
    assert str(unknown_name("task", "zzz", ["binary"], " (note)")) == "unknown task 'zzz' (note). There is: 'binary'."
