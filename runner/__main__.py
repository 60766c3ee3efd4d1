"""``python -m assay.runner`` is the command ``assay``."""

import os
import sys

from .commands.main import main

code = main()
if "TORCHELASTIC_RUN_ID" in os.environ:  # not without need: it imports torch
    from .processes.process_exit import leave

    leave(code)
sys.exit(code)
