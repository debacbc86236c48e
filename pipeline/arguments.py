"""L0: command-line arguments that are refused as all other bad input is."""

import argparse
from typing import NoReturn

from pipeline.config.shown import shortened


class Arguments(argparse.ArgumentParser):
    """Refuse wrong arguments with one line that names the command and the remedy, and exit code 2."""

    def error(self, message: str) -> NoReturn:
        command, usage = self.prog.rpartition(".")[2], " ".join(self.format_usage().split())
        self.exit(2, f"{command}: {shortened(message, 300)}; correct the command ({usage})\n")
