"""``python -m assay.runner`` is the command ``assay``."""

import sys

from .cli import main

sys.exit(main())
