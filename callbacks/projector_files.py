"""The files that TensorBoard's projector reads: they lie beside the event file, for any kind of ``SummaryWriter``."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from google.protobuf import text_format
from PIL import Image
from tensorboard.plugins.projector.projector_config_pb2 import EmbeddingInfo, ProjectorConfig

from .printable import printable
from .atomic_files import replacing

_CONFIG = "projector_config.pbtxt"


def write_embedding(
    folder: Path,
    name: str,
    vectors: np.ndarray,
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    sheet: np.ndarray,
    thumbnail: int,
) -> None:
    """Write one embedding and add it to the folder's projector config; one of the same name is replaced.

    Args:
        folder: the event folder.
        name: as the projector lists it; a folder of this name takes the files.
        vectors: [N, D], floating point.
        header: names of the columns of ``rows``; left out where there is one column, which the projector takes bare.
        rows: N rows of text.
        sheet: [S, S, 3], uint8, RGB: N thumbnails row by row.
        thumbnail: side of a thumbnail in pixels.
    """
    own = name.replace(":", "-")
    (folder / own).mkdir(parents=True, exist_ok=True)
    np.savetxt(folder / own / "tensors.tsv", vectors, fmt="%.7g", delimiter="\t")
    lines = ([header] if len(header) > 1 else []) + list(rows)
    text = "".join("\t".join(" ".join(cell.split()) for cell in line) + "\n" for line in lines)
    (folder / own / "metadata.tsv").write_text(printable(text), encoding="utf-8")
    Image.fromarray(sheet).save(folder / own / "sprite.png")
    info = EmbeddingInfo(tensor_name=name, tensor_path=f"{own}/tensors.tsv", metadata_path=f"{own}/metadata.tsv")
    info.sprite.image_path = f"{own}/sprite.png"
    info.sprite.single_image_dim.extend([thumbnail, thumbnail])
    _add(folder / _CONFIG, info)


def _add(path: Path, info: EmbeddingInfo) -> None:
    config = ProjectorConfig()
    if path.exists():
        text_format.Parse(path.read_text(encoding="utf-8"), config)
    others = [other for other in config.embeddings if other.tensor_name != info.tensor_name]
    del config.embeddings[:]
    config.embeddings.extend([*others, info])
    with replacing(path) as temporary:  # a server that reads meanwhile never finds half a file
        temporary.write_text(text_format.MessageToString(config), encoding="utf-8")
