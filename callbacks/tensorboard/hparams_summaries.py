"""Summaries for TensorBoard's HPARAMS tab: hyper-parameters, and the start and the end of the session they belong to.

A run folder holds one session.
"""

# No description of the experiment (EXPERIMENT_TAG) is written: the server would take the first one it finds for all
# runs, while without any it collects the hyper-parameters of all of them.

import math
import time
from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any

from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
from tensorboard.plugins.hparams import api_pb2, metadata
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData, SessionEndInfo, SessionStartInfo

Plain = bool | float | str


def flatten(hparams: Mapping[str, Any], prefix: str = "") -> dict[str, Plain]:
    """Return hyper-parameters as the HPARAMS tab takes them.

    Args:
        hparams: by name; the names of a nested dict are joined by dots.
        prefix: comes before every name.

    Returns:
        Flags, finite numbers and strings as they are, lists joined by commas, anything else as text.
    """
    flat: dict[str, Plain] = {}
    for name, value in hparams.items():
        if isinstance(value, Mapping):
            flat.update(flatten(value, f"{prefix}{name}."))
        else:
            flat[f"{prefix}{name}"] = _as_plain(value)
    return flat


def session_start(hparams: Mapping[str, Plain]) -> Summary:
    """Return the summary that starts a run's session."""
    info = SessionStartInfo(start_time_secs=time.time())
    for name, value in hparams.items():
        # The kind by the exact type, as a bool is also a number.
        kind = {bool: "bool_value", str: "string_value"}.get(type(value), "number_value")
        setattr(info.hparams[name], kind, value)
    return _summary(metadata.SESSION_START_INFO_TAG, HParamsPluginData(session_start_info=info))


def session_end(succeeded: bool) -> Summary:
    """Return the summary that ends a run's session."""
    status = api_pb2.STATUS_SUCCESS if succeeded else api_pb2.STATUS_FAILURE
    info = SessionEndInfo(status=status, end_time_secs=time.time())
    return _summary(metadata.SESSION_END_INFO_TAG, HParamsPluginData(session_end_info=info))


def _as_plain(value: Any) -> Plain:
    if isinstance(value, bool | str):
        return value
    if isinstance(value, Real) and math.isfinite(value):
        return float(value)
    if isinstance(value, Sequence | set | frozenset):
        return ", ".join(str(part) for part in value)
    return str(value)


def _summary(tag: str, data: HParamsPluginData) -> Summary:
    data.version = metadata.PLUGIN_DATA_VERSION
    plugin = SummaryMetadata.PluginData(plugin_name=metadata.PLUGIN_NAME, content=data.SerializeToString())
    return Summary(value=[Summary.Value(tag=tag, metadata=SummaryMetadata(plugin_data=plugin))])
