"""Write pages for people about finished runs: what a run saw, learned, found and took."""

from oce2stardist.reports.choices import write_choices
from oce2stardist.reports.demo import write_demo_report
from oce2stardist.reports.experiment import write_experiment_report
from oce2stardist.reports.finetune import write_finetune_report
from oce2stardist.reports.pseudo import write_pseudo_report
from oce2stardist.reports.selection import choose_evenly

__all__ = [
    "choose_evenly",
    "write_choices",
    "write_demo_report",
    "write_experiment_report",
    "write_finetune_report",
    "write_pseudo_report",
]
