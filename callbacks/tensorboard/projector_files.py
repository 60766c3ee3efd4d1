"""The files that TensorBoard's projector reads, beside the event file of any kind of ``SummaryWriter``."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from google.protobuf import text_format
from PIL import Image
from tensorboard.plugins.projector.projector_config_pb2 import EmbeddingInfo, ProjectorConfig

from ..support.atomic_files import replacing
from ..support.printable import printable

_CONFIG = "projector_config.pbtxt"


@dataclass(frozen=True)
class Embedding:
    """A cloud of samples, as the projector shows it.

    Args:
        vectors: [N, D], floating point.
        header: names of the columns of ``rows``.
        rows: N rows of text.
        sheet: [S, S, 3], uint8, RGB: N thumbnails row by row.
        thumbnail: side of a thumbnail in pixels.
    """

    vectors: np.ndarray
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    sheet: np.ndarray
    thumbnail: int


def write_embedding(folder: Path, name: str, embedding: Embedding) -> None:
    """Write one embedding and add it to the folder's projector config; one of the same name is replaced.

    Args:
        folder: the event folder.
        name: as the projector lists it; a folder of this name holds the files.
        embedding: what is written.
    """
    own = name.replace(":", "-")  # not every file system takes a colon
    (folder / own).mkdir(parents=True, exist_ok=True)
    np.savetxt(folder / own / "tensors.tsv", embedding.vectors, fmt="%.7g", delimiter="\t")
    # The projector takes a single column bare: its header would be read as a sample.
    lines = ([embedding.header] if len(embedding.header) > 1 else []) + list(embedding.rows)
    text = "".join("\t".join(" ".join(cell.split()) for cell in line) + "\n" for line in lines)
    (folder / own / "metadata.tsv").write_text(printable(text), encoding="utf-8")
    Image.fromarray(embedding.sheet).save(folder / own / "sprite.png")
    info = EmbeddingInfo(tensor_name=name, tensor_path=f"{own}/tensors.tsv", metadata_path=f"{own}/metadata.tsv")
    info.sprite.image_path = f"{own}/sprite.png"
    info.sprite.single_image_dim.extend([embedding.thumbnail] * 2)
    _add_to_config(folder / _CONFIG, info)


def _add_to_config(path: Path, info: EmbeddingInfo) -> None:
    config = ProjectorConfig()
    if path.exists():
        text_format.Parse(path.read_text(encoding="utf-8"), config)
    # Other embeddings of this folder stay listed.
    others = [other for other in config.embeddings if other.tensor_name != info.tensor_name]
    del config.embeddings[:]
    config.embeddings.extend([*others, info])
    # A server that reads the config meanwhile must not find half of it.
    with replacing(path) as temporary:
        temporary.write_text(text_format.MessageToString(config), encoding="utf-8")
