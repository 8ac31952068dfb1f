"""Problem sets from files and datasets: field maps, reference answers, and no train problem that is an eval problem."""

from astro.importing.sets import Imported, import_countdown, import_math

__all__ = ["Imported", "import_countdown", "import_math"]
