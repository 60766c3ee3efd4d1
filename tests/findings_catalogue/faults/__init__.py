"""Planted faults, by the kinds of rules; importing this registers all."""

from . import boxes, data, first_epochs, labels, losses, masks, models, optimization, structure, transforms  # noqa: F401
