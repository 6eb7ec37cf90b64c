"""Compare distillation methods on your own data, over several seeds.

    %(prog)s mmdet::atss/atss_r50_fpn_1x_coco.py \\
        --teacher mmdet::atss/atss_r101_fpn_1x_coco.py \\
        --teacher-checkpoint https://... \\
        --data-root data/own --methods baseline direct fmkt \\
        --seeds 0 1 2 --budget 12 --steps 1 4

Trains each method with each seed on the same data for the same number of
epochs, evaluates the last checkpoints, and measures the latency of the
deployed networks. Writes a table of means, standard errors and paired
differences, one sentence per method, and an HTML report. All configs are
checked before training. To resume an interrupted comparison, repeat the
command; to extend a comparison, repeat it with more methods or seeds.
"""

import argparse
import signal
import sys
from pathlib import Path
from typing import Iterator

from mmfmkt.apis.compare import (
    Comparison,
    Executor,
    Run,
    check_methods,
    compose_methods,
)
from mmfmkt.apis.compare.composition import BASELINE
from mmfmkt.apis.compare.latency import is_measured, measure_latency
from mmfmkt.apis.compare.results import Summary, summarize
from mmfmkt.models.flows import VARIANTS
from mmfmkt.utils.error_messages import error_text
from mmfmkt.utils.files import write_atomically

from .options import (
    add_cfg_options,
    add_flags,
    add_pair_arguments,
    add_steps,
    int_at_least,
    make_parser,
    pair_name,
)
from .report import import_report


def build_parser(prog: str) -> argparse.ArgumentParser:
    """Return the parser of the command."""
    parser = make_parser(__doc__, prog=prog)
    add_pair_arguments(parser)
    add = parser.add_argument
    add(
        '--methods',
        nargs='+',
        metavar='METHOD',
        default=[BASELINE, 'direct', 'theta', 'fmkt'],
        help=f'{BASELINE} (the student without a teacher), '
        f'{", ".join(VARIANTS)}, or config files (default: %(default)s)',
    )
    add(
        '--seeds',
        nargs='+',
        type=int_at_least(0),
        default=[0, 1, 2],
        metavar='SEED',
        help='random seeds of each method (default: %(default)s)',
    )
    add(
        '--budget',
        type=int_at_least(1),
        metavar='N',
        help='number of epochs of each training, or of iterations if the '
        "student's config has max_iters (default: that of the config)",
    )
    add_steps(parser, " (default: K of the method's config)")
    add(
        '--metric',
        help='metric of the table, for instance coco/bbox_mAP_50; by default '
        "the evaluator's first",
    )
    add(
        '--jobs',
        type=int_at_least(1),
        default=1,
        help='number of parallel trainings (default: %(default)s)',
    )
    add(
        '--work-dir',
        help='folder of all runs and results (default: '
        'work_dirs/compare_TEACHER_STUDENT)',
    )
    dry_run = 'check all methods and list the runs without training'
    flags = {'--amp': 'train in mixed precision', '--dry-run': dry_run}
    add_flags(parser, flags)
    add_cfg_options(parser)
    return parser


def run(args: argparse.Namespace) -> int:
    """Compare methods; return 1 if a run has failed."""
    name = pair_name('compare', args)
    folder = Path(args.work_dir or Path('work_dirs', name)).resolve()
    comparison = Comparison(
        title=name,
        metric=args.metric,
        results=folder / 'results.json',
        methods=compose_methods(
            args.methods,
            args.student,
            args.teacher,
            folder / 'configs',
            args.seeds,
            args.budget,
            args.steps,
            args.cfg_options,
            args.amp,
            args.class_maps,
            teacher_checkpoint=args.teacher_checkpoint,
            teacher_scale=args.teacher_scale,
            data_root=args.data_root,
            annotations=folder,
        ),
    )
    executor = Executor(comparison, folder, args.jobs, retry=True)
    runs = comparison.runs()
    pending = [x for x in runs if executor.is_pending(x)]
    check_methods({x.method.name: x.method for x in pending}.values())
    print(f'{len(runs)} runs, {len(pending)} of them to be run, in {folder}')
    if args.dry_run:
        print('\n'.join(f'{x}: {executor.state(x)}' for x in runs))
        return 0
    executor.collect()  # drops results and latencies of deleted runs
    execute(executor, runs)
    results = executor.collect()
    if not all(is_measured(x, results['cost']) for x in comparison.methods):
        try:
            results = executor.collect(measure_latency(executor))
        except Exception as error:  # for instance, a deleted checkpoint
            print(f'The latency is not measured: {error_text(error)}')
    summary = summarize(comparison, results)
    if summary is not None:
        text = '\n\n'.join([str(summary), *notes(args, comparison, results)])
        text += '\n'
        print(f'\n{text}')
        write_atomically(folder / 'comparison.md', text)
        write_page(executor, summary)
    failed = [x for x in runs if executor.state(x) != 'done']
    for failed_run in failed:
        state = executor.state(failed_run)
        print(f'{failed_run}: {state}', file=sys.stderr)
    return 1 if failed else 0


def notes(
    args: argparse.Namespace, comparison: Comparison, results: dict
) -> Iterator[str]:
    """Yield the notes below the table."""
    options = args.cfg_options or {}
    checkpoint = args.teacher_checkpoint or options.get(
        'model.teacher.checkpoint'
    )
    if args.teacher and not checkpoint:
        yield (
            'The teacher had random weights, since --teacher-checkpoint was '
            'not set.'
        )
    names = {x.name for x in comparison.methods}
    if others := sorted({x['method'] for x in results['runs']} - names):
        yield (
            f'Other methods have results, too: {", ".join(others)}. This '
            'table has those of --methods.'
        )


def execute(executor: Executor, runs: list) -> None:
    """Execute runs; on SIGTERM or Ctrl-C, save checkpoints and exit."""
    handler = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        executor.execute(runs)
    except KeyboardInterrupt:
        print('Interrupted; the same command resumes.', file=sys.stderr)
        sys.exit(128 + signal.SIGINT)
    finally:
        signal.signal(signal.SIGTERM, handler)


def write_page(executor: Executor, summary: Summary) -> None:
    """Write the HTML report of the comparison.

    It shows one run of each method: that with the smallest successful seed.
    """
    work_dirs = {
        row.method.name: Run(row.method, min(row.values)).folder
        for row in summary.rows
        if row.values
    }
    try:
        report = import_report()
        from mmfmkt.visualization.report.comparison import comparison_section

        path = report.write_report(
            [
                report.read_work_dir(str(executor.folder / x))
                for x in work_dirs.values()
            ],
            executor.folder / 'report.html',
            sections=[comparison_section(summary)],
        )
    except Exception as error:
        print(f'The HTML report is not written: {error_text(error)}')
    else:
        print(f'{path} ({path.stat().st_size / 2**20:.1f} MiB)')
