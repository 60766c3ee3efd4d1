"""Load pretrained weights by the libraries that know them, and say in one line what to fetch where that fails."""

import socket
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any, NamedTuple, TypeVar
from urllib.parse import urlsplit
from urllib.request import getproxies

from torch import nn

from assay.callbacks.errors import UsageError

from .loaded import mark_loaded

Model = TypeVar("Model", bound=nn.Module)

_weights_follow: ContextVar[bool] = ContextVar("weights_follow", default=False)
# Of the packages that load: their errors for files that are missing or damaged are of no common kind.
_LOADING = ("safetensors", "huggingface_hub", "httpx", "requests", "pickle", "_pickle", "zipfile")
# timm asks the hub for the safe form of a file first, and names the other one in its error.
_SAFE_FORMS = {
    "pytorch_model.bin": "model.safetensors", "open_clip_pytorch_model.bin": "open_clip_model.safetensors",
}  # fmt: skip


class _File(NamedTuple):
    """A file of weights: where it is published, where it belongs, and the hub's reference to it, if there is one."""

    url: str
    path: Path
    reference: Path | None = None


@contextmanager
def weights_follow() -> Iterator[None]:
    """Have ``load_pretrained`` load nothing within the block, as the weights of a checkpoint take their place."""
    token = _weights_follow.set(True)
    try:
        yield
    finally:
        _weights_follow.reset(token)


def load_pretrained(make: Callable[..., Model], name: str, *, pretrained: bool) -> Model:
    """Return ``make(pretrained=pretrained)``; where its weights cannot be had, say which file to fetch.

    What is loaded counts as such for ``--lr-head``: all parameters, but for a timm classifier of another size. Where a
    checkpoint follows, as in ``assay predict``, ``pretrained`` is false and nothing is downloaded.

    Args:
        make: makes the model, and loads its weights by timm, torchvision, or another library that downloads by
            ``torch.hub`` or ``huggingface_hub``.
        name: of the model, for the message.
        pretrained: whether to load its weights.

    Raises:
        UsageError: there are no such weights, or they are not on this machine and cannot be downloaded. The message
            names the file and the place in the library's cache where it is found from then on.

    Example:
        >>> def make(pretrained):
        ...     import torchvision
        ...     return torchvision.models.resnet18(weights="DEFAULT" if pretrained else None)
        >>> net = load_pretrained(make, "resnet18", pretrained=False)
    """
    if not pretrained or _weights_follow.get():
        return make(pretrained=False)
    model = _made(make, name)
    source = getattr(model, "pretrained_cfg", None)
    # timm makes some models with a log line alone, and with random weights.
    if isinstance(source, Mapping) and not any(source.get(key) for key in ("url", "file", "hf_hub_id", "state_dict")):
        raise UsageError(f"pretrained must be false: timm has no weights for {name!r}.")
    fresh = {id(parameter) for parameter in _fresh_classifier(model, source)}
    mark_loaded(parameter for parameter in model.parameters() if id(parameter) not in fresh)
    return model


def _made(make: Callable[..., Model], name: str, *, again: bool = False) -> Model:
    try:
        with _without_retries():
            return make(pretrained=True)
    except UsageError:
        raise
    except Exception as error:
        wanted = _wanted_file(error)
        if wanted is None and not _is_of_loading(error):
            raise
        if wanted is not None and not again and _complete_cache(wanted):
            return _made(make, name, again=True)
        raise UsageError(_message(name, wanted, error)) from error


@contextmanager
def _without_retries() -> Iterator[None]:
    """Let the hub look into its cache alone where its host is unknown; else it tries each file again for a minute."""
    try:
        from huggingface_hub import constants
    except ImportError:
        yield
        return
    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = before or not _is_known(urlsplit(constants.ENDPOINT).hostname)
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


def _is_known(host: str | None) -> bool:
    if host is None or getproxies():  # a proxy knows it
        return True
    try:
        socket.getaddrinfo(host, None)
    except OSError:
        return False
    return True


def _message(name: str, wanted: _File | None, error: Exception) -> str:
    reason = " ".join(str(error).split()).partition(". ")[0][:120] or type(error).__name__
    if wanted is None:
        return f"pretrained: the weights of {name!r} cannot be loaded ({reason}); train without: --pretrained false."
    return (
        f"pretrained: the weights of {name!r} are not on this machine, and cannot be downloaded: fetch {wanted.url} "
        f"and put it at {wanted.path} ({reason})."
    )


def _is_of_loading(error: Exception) -> bool:
    return isinstance(error, OSError | RuntimeError) or type(error).__module__.partition(".")[0] in _LOADING


def _wanted_file(error: BaseException | None) -> _File | None:
    """Return the file that was asked for when an error was raised; None where it was none of a download."""
    found = None
    while error is not None and found is None:
        frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
        by_timm = any(frame.f_code.co_name == "load_state_dict_from_hf" for frame in frames)
        for frame in frames:
            # The arguments of two public functions, by which each library downloads: so it is the file itself that is
            # named, whichever model of which library asks for it.
            given = frame.f_locals
            if frame.f_code.co_name == "hf_hub_download" and "repo_id" in given:
                found = _file_of_hub(given, by_timm=by_timm)
            elif frame.f_code.co_name == "download_url_to_file" and "dst" in given:
                found = _File(str(given["url"]), Path(given["dst"]))
        error = error.__cause__ or error.__context__
    return found


def _file_of_hub(given: Mapping[str, Any], *, by_timm: bool) -> _File:
    from huggingface_hub import constants, hf_hub_url
    from huggingface_hub.file_download import repo_folder_name

    repo, name = given["repo_id"], given["filename"]
    if by_timm:
        name = _SAFE_FORMS.get(name, name)
    revision = given.get("revision") or "main"
    folder = Path(given.get("cache_dir") or constants.HF_HUB_CACHE) / repo_folder_name(repo_id=repo, repo_type="model")
    reference = folder / "refs" / revision
    snapshot = reference.read_text() if reference.is_file() else revision
    return _File(hf_hub_url(repo, name, revision=revision), folder / "snapshots" / snapshot / name, reference)


def _complete_cache(file: _File) -> bool:
    """Refer to a file that a user put into the hub's cache, which finds none without; return whether there is one."""
    if file.reference is None or file.reference.is_file() or not file.path.is_file():
        return False
    file.reference.parent.mkdir(parents=True, exist_ok=True)
    file.reference.write_text(file.path.parent.name)
    return True


def _fresh_classifier(model: Any, source: Any) -> list[nn.Parameter]:
    """Return the parameters of a timm classifier that has another size than the pretrained one."""
    if not isinstance(source, Mapping) or not hasattr(model, "get_classifier"):
        return []
    if source.get("num_classes") == getattr(model, "num_classes", None):
        return []
    parts = model.get_classifier()
    parts = parts if isinstance(parts, tuple | list) else [parts]
    return [parameter for part in parts if isinstance(part, nn.Module) for parameter in part.parameters()]
