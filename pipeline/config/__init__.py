"""L0: typed parameters. `load` checks a whole experiment file and gives a stage only the sections it declares."""

from pipeline.config.loader import Roster, Settings, load, load_roster

__all__ = ["Roster", "Settings", "load", "load_roster"]
