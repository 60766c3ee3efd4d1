"""The devices that a benchmark can run on."""

import argparse

import torch

DEVICES = ("cpu", "cuda")


def require_device(parser: argparse.ArgumentParser, device: str) -> None:
    """End the command with one line if the device is not available."""
    if device == "cuda" and not torch.cuda.is_available():
        parser.exit(2, "--device cuda needs a GPU that torch can use; this machine has none\n")
