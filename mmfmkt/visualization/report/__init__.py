"""A page that shows what runs gave and what their flows do."""

from .page import write_report
from .runs import WorkDir, read_work_dir

__all__ = ['WorkDir', 'read_work_dir', 'write_report']
