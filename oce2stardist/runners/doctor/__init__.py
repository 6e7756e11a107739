"""Is everything there that the program needs, and what mends what is not?"""

from oce2stardist.runners.doctor.examination import Examination, examine
from oce2stardist.runners.doctor.findings import Finding

__all__ = ["Examination", "Finding", "examine"]
