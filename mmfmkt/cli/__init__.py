"""The console command ``mmfmkt``; files in tools/ run the same functions."""

import argparse
import sys
from contextlib import nullcontext
from importlib import import_module
from typing import ContextManager, Optional, Sequence

from mmfmkt.utils.stack import require
from mmfmkt.version import __version__

# Modules of this package, in the order of the help.
COMMANDS = dict(
    train='train a config: a distillation, or any other',
    test='evaluate a checkpoint',
    distill='compose a distillation from two configs, and train it',
    export='write config and checkpoint of the student',
    report='show trainings in an HTML page',
    configs='list, show or copy shipped configs',
    doctor='check libraries, operators and devices',
)


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Run the command that the first argument names.

    Args:
        argv (Sequence[str], optional): Arguments; by default those of the
            process.

    Returns:
        int: The exit status.
    """
    argv = sys.argv[1:] if argv is None else argv
    width = max(map(len, COMMANDS))
    rows = [f'  {name:{width}}  {text}' for name, text in COMMANDS.items()]
    parser = argparse.ArgumentParser(
        prog='mmfmkt',
        usage='%(prog)s COMMAND [arguments]',
        description='Knowledge distillation with flow matching (FM-KT).',
        epilog='\n'.join(
            ['commands:', *rows, '', 'mmfmkt COMMAND --help has the options.']
        ),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('--version', action='version', version=__version__)
    parser.add_argument(
        'command', choices=COMMANDS, help=argparse.SUPPRESS, metavar='COMMAND'
    )
    if not argv:
        parser.print_help()
        return 0
    return run(parser.parse_args(argv[:1]).command, argv[1:])


def run(
    command: str,
    argv: Optional[Sequence[str]] = None,
    prog: Optional[str] = None,
) -> int:
    """Run a command; an error ends the process with one line.

    Args:
        command (str): A key of ``COMMANDS``.
        argv (Sequence[str], optional): Its arguments; by default those of
            the process.
        prog (str, optional): What the help calls it.

    Returns:
        int: The exit status.
    """
    context: ContextManager = nullcontext()
    # The doctor reports what is missing, and needs none of it.
    if command != 'doctor':
        try:
            require('torch', 'mmengine')
        except ImportError as error:
            sys.exit(f'error: {error}')
        from mmfmkt.utils.configs import link_shipped

        from .errors import exit_on_error

        link_shipped()
        context = exit_on_error()
    with context:
        module = import_module(f'mmfmkt.cli.{command}')
        parser = module.build_parser(prog or f'mmfmkt {command}')
        return module.run(parser.parse_args(argv)) or 0
