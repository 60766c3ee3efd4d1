"""``python -m assay.runner`` is the command ``assay``."""

import os
import sys

from .cli import main

code = main()
if "TORCHELASTIC_RUN_ID" in os.environ:  # not without need: it imports torch
    from .rank import leave

    leave(code)
sys.exit(code)
