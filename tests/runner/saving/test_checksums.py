import numpy as np
import pytest
from tensorboard.compat.tensorflow_stub import pywrap_tensorflow
from tensorboard.summary.writer import record_writer

from assay.runner.saving.checksums import masked_crc32c, speed_up_checksums


@pytest.mark.parametrize("size", [0, 1, 8, 1000, 65_537])
def test_checksums_are_those_of_tensorboard(size):
    data = np.random.default_rng(size).bytes(size)
    assert masked_crc32c(data) == pywrap_tensorflow.masked_crc32c(data)


def test_the_writer_of_event_files_uses_them():
    speed_up_checksums()
    assert record_writer.masked_crc32c is masked_crc32c
    assert "masked_crc32c" in record_writer.RecordWriter.write.__code__.co_names  # looked up in the module at each call
