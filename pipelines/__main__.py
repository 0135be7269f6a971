"""`python -m pipelines` is `likeness`."""

import sys

from pipelines.cli import main

sys.exit(main())
