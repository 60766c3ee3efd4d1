"""Callbacks whose ``**options`` go to their base show them as the arguments that they are."""

from inspect import Parameter, Signature, signature


def signature_with_options(kind: type) -> Signature:
    """Return the arguments of a class's constructor, with those by keyword of its base in place of ``**options``.

    A base sets ``__signature__`` to it in ``__init_subclass__``, for ``help``, configs and the checks of arguments.
    It does so for every subclass: the attribute is inherited, and one with arguments of its own would show those of
    its base.
    """
    own = list(signature(kind.__init__).parameters.values())[1:]  # type: ignore[misc]  # of the class itself
    named = [parameter for parameter in own if parameter.kind is not Parameter.VAR_KEYWORD]
    inherited = signature(kind.__mro__[1]).parameters.values() if len(named) < len(own) else ()
    return Signature([*named, *(parameter for parameter in inherited if parameter.kind is Parameter.KEYWORD_ONLY)])
