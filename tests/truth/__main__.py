"""The score of many runs: python -m tests.truth [FIRST [LAST]], seeds of `mixed`; 0 to 440 take two minutes."""

import sys
import tempfile
from pathlib import Path

from .mix import certificate
from .runs import run_all
from .score import Score

first, last = (*map(int, sys.argv[1:3]), *(0, 440)[len(sys.argv) - 1 :])
score = Score()
with tempfile.TemporaryDirectory() as folder:
    for name, trace in run_all(range(first, last), certificate(Path(folder))):
        score.add(name, trace)
print(score.table())
print(f"The whole run does not tell the cause of {score.untold} more.")
print(*(f"wrong: {told}" for told in score.wrong), *(f"missed: {told}" for told in score.missed), sep="\n")
sys.exit(bool(score.wrong))
