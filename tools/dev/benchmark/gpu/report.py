"""Report to which each result is written at once, and parts with limits."""

import gc
import json
import os
import signal
import time
import traceback
from contextlib import suppress
from pathlib import Path
from typing import Any, Callable, List, Sequence, Tuple

import torch

# Part of a group: name, limit in seconds, function.
Part = Tuple[str, float, Callable[[], None]]


class Report:
    """Writer of results to a folder, with the seconds since its start."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.start = folder, time.time()

    def add(self, name: str, text: str, **data: Any) -> None:
        """Write text to results.txt, text and data to results.jsonl."""
        seconds = time.time() - self.start
        line = f'[{seconds:5.0f} s] {name}: {text}'
        print(line, flush=True)
        self._append('results.txt', line)
        result = dict(name=name, seconds=seconds, text=text, **data)
        self._append('results.jsonl', json.dumps(result, default=str))

    def add_check(
        self,
        name: str,
        total: int,
        text: str,
        failures: List[str],
        **data: Any,
    ) -> None:
        """Write how many of ``total`` cases passed, and the failures.

        ``text`` follows the numbers, such as ``3 of 4 {text}``.
        """
        text = f'{total - len(failures)} of {total} {text}'
        text += ''.join(f'\n    FAILED: {x}' for x in failures)
        self.add(name, text, status='failed' if failures else 'ok', **data)

    def log(self, title: str, text: str) -> None:
        """Write a log or a traceback."""
        self._append('errors.log', f'==== {title}\n{text}')

    def run_parts(self, parts: Sequence[Part], deadline: float) -> None:
        """Run parts one after another until the deadline.

        A failed part is reported; a part without time is skipped.

        At its limit a part is interrupted as by Ctrl-C: interleaved timing
        then reports the rounds so far.
        """
        signal.signal(signal.SIGALRM, signal.default_int_handler)
        for name, limit, function in parts:
            limit = int(min(limit, deadline - time.time()))
            if limit < 5:
                self.add(name, 'skipped: no time left', status='skipped')
                continue
            # Repeated, because Python ignores an exception in a destructor.
            signal.setitimer(signal.ITIMER_REAL, limit, 5)
            try:
                function()
                signal.alarm(0)
            except (Exception, KeyboardInterrupt, SystemExit) as error:
                signal.alarm(0)
                text = f'FAILED (limit {limit} s): {describe(error)}'
                self.add(name, text, status='failed')
                self.log(name, traceback.format_exc())
            finally:
                signal.alarm(0)
                gc.collect()
                if torch.cuda.is_initialized():
                    with suppress(RuntimeError):
                        torch.cuda.empty_cache()

    def _append(self, name: str, text: str) -> None:
        with open(self.folder / name, 'a', encoding='utf-8') as file:
            file.write(text.rstrip() + '\n')


def describe(error: BaseException) -> str:
    """Describe type and message of an error in one line."""
    return f'{type(error).__name__}: {" ".join(str(error).split())}'[:300]


def describe_machine(device: torch.device) -> str:
    """Describe hardware and versions in one line."""
    text = f'torch {torch.__version__}, {os.cpu_count()} cores, {device}'
    if device.type == 'cuda':
        text += f' {torch.cuda.get_device_name(device)}'
        text += f', cudnn {torch.backends.cudnn.version()}'
    return text
