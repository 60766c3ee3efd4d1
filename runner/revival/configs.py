"""Mends of the YAML configs that ``catalyst-run`` reads."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from hydra_slayer import functional as slayer

from assay.callbacks.errors import unknown_name

from .fault import fault, is_mended

_BOOLS = (bool, bool | None, "bool", "bool | None", "Optional[bool]")
_WORDS = {"y": True, "n": False}
_stock = slayer._get_from_params
_stock_arguments = slayer._extract_positional_keyword_vars


@fault(changes_numbers=True)
def config_words() -> bool:
    """The y and n of Catalyst's configs are read as strings, and both count as yes."""
    slayer._extract_positional_keyword_vars = _extract_arguments
    slayer._get_from_params = _make_from_config
    return True


@fault()
def config_variables() -> bool:
    """A variable outlives its config and is seen by the next run, and an undefined one is an empty dict."""
    slayer._get_from_params = _make_from_config
    return True


def _extract_arguments(function: Callable[..., Any], kwargs: dict[str, Any]) -> Any:
    """Replace hydra-slayer's function that prepares the arguments of a call in a config."""
    return _stock_arguments(function, yes_or_no(function, kwargs))


def yes_or_no(function: Callable[..., Any], arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments with True and False for y and n, where the function expects a bool."""
    # YAML 1.2 reads y and n as strings, and both are true.
    flags = {name for name, parameter in _parameters_of(function).items() if _takes_bool(parameter)}
    return {name: _word_to_bool(value) if name in flags else value for name, value in arguments.items()}


def _parameters_of(function: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """Return the parameters of a function; of a class or method also those of its bases, which kwargs may reach."""
    parameters: dict[str, inspect.Parameter] = {}
    for own in reversed(_derived_from(function)):
        with suppress(TypeError, ValueError):  # some callables in C have no signature
            parameters |= inspect.signature(own).parameters
    return parameters


def _derived_from(function: Callable[..., Any]) -> Sequence[Callable[..., Any]]:
    if isinstance(function, type):
        return function.__mro__
    if not inspect.ismethod(function):
        return (function,)
    kinds = inspect.getmro(type(function.__self__))
    return [vars(kind)[function.__name__] for kind in kinds if function.__name__ in vars(kind)]


def _takes_bool(parameter: inspect.Parameter) -> bool:
    return isinstance(parameter.default, bool) or parameter.annotation in _BOOLS


def _word_to_bool(value: Any) -> Any:
    return _WORDS.get(value.lower(), value) if isinstance(value, str) else value


def _make_from_config(
    *, params: dict[str, Any], vars_dict: dict[str, Any], var_key: str, attrs_delimiter: str, **keys: Any
) -> Any:
    """Replace hydra-slayer's function that creates what one mapping of a config describes."""
    if is_mended("config_variables") and set(params) == {var_key}:
        _check_variable(params[var_key].partition(attrs_delimiter)[0], vars_dict)
    keys |= {"var_key": var_key, "attrs_delimiter": attrs_delimiter}
    made, variables = _stock(params=params, vars_dict=vars_dict, **keys)
    if isinstance(made, Mapping) and {"runner", "run"} <= set(made):  # the whole config
        if is_mended("config_words"):
            for stage in made["run"]:
                stage.update(yes_or_no(getattr(made["runner"], stage["_call_"]), stage))
        if is_mended("config_variables"):
            variables.clear()  # otherwise the next config of this process would see them
    return made, variables


def _check_variable(name: str, known: Mapping[str, Any]) -> None:
    if name not in known:
        raise unknown_name("_var_", name, known, " in the config, which must define it above")
