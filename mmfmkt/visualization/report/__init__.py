"""HTML report of training runs, their results and their flows."""

from .page import write_report
from .runs import WorkDir, read_work_dir

__all__ = ['WorkDir', 'read_work_dir', 'write_report']
