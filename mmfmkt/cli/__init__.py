"""Console command ``mmfmkt``, which tools/*.py also run."""

import argparse
import os
import sys
from contextlib import nullcontext
from importlib import import_module
from typing import ContextManager, Optional, Sequence

from mmfmkt.utils.stack import require
from mmfmkt.version import __version__

# Commands, each a module of this package, with their help text.
COMMANDS = dict(
    train='train a config',
    test='evaluate a checkpoint',
    distill='distill a teacher config into a student config',
    compare='compare methods over seeds on your own data',
    export='export config and checkpoint of the student',
    onnx='export as ONNX and compare in ONNX Runtime',
    report='write an HTML report of training runs',
    configs='list, show or copy shipped configs',
    doctor='check libraries, operators and devices',
)


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Run the command that is named by the first argument.

    Args:
        argv (Sequence[str], optional): Arguments; default: ``sys.argv[1:]``.

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
            ['commands:', *rows, '', 'Options: mmfmkt COMMAND --help']
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
    """Run a command; errors are printed as one line.

    Args:
        command (str): A key of ``COMMANDS``.
        argv (Sequence[str], optional): Arguments of the command; default:
            ``sys.argv[1:]``.
        prog (str, optional): Program name in the help.

    Returns:
        int: The exit status.
    """
    # As with `python -m`, modules in custom_imports may be in this folder.
    sys.path.append(os.getcwd())
    context: ContextManager = nullcontext()
    # The doctor runs without the libraries that it checks.
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
