"""Compute the checksums of event files in C instead of Python."""

from crc32c import crc32c
from tensorboard.summary.writer import record_writer

_MASK = 0xA282EAD8  # of the TFRecord format, https://www.tensorflow.org/tutorials/load_data/tfrecord


def masked_crc32c(data: bytes) -> int:
    """Return the checksum of a record's bytes: CRC-32C, rotated by 15 bits and masked."""
    checksum = crc32c(data)
    return ((checksum >> 15 | checksum << 17) + _MASK) & 0xFFFFFFFF


def speed_up_checksums() -> None:
    """Make TensorBoard's writers use the checksum in C."""
    # Their own, in Python, holds the interpreter lock, and so the training loop, for 0.2 s per megabyte.
    record_writer.masked_crc32c = masked_crc32c
