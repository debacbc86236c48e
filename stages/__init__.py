"""One file is one node of the DAG, run as `python -m stages.<name> <axes>` by dvc.yaml."""

import sys

from pipeline.io import process

if sys.argv[0] == "-m":  # Python is still looking for the stage's module, whose imports take seconds
    process.die_with_parent()
    process.end_silently()
