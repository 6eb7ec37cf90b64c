#!/usr/bin/env bash
# Sets up the environment, then runs style checks and all or the given tests.
set -euo pipefail

. "$(dirname "${BASH_SOURCE[0]}")/find_python.sh"

cd "$root_dir"
tests=tests
stack=onedl
if [ "${1:-}" = --stack ]; then
    stack=${2:-}
    shift $(($# > 1 ? 2 : 1))
fi
for argument in "$@"; do
    if [ "$argument" = -h ] || [ "$argument" = --help ]; then
        cat <<'HELP'
usage: bash tools/dev/run_tests.sh [--stack {onedl,upstream}] [tests/...]
                               [options of pytest]

Without test paths, checks the style (ruff) and runs all tests except the slow
ones in tests/dev, which test the maintainers' scripts:
bash tools/dev/run_tests.sh tests/dev

--stack upstream runs them on OpenMMLab's last releases (torch 2.1, mmcv 2.1,
mmdet 3.3, mmpretrain 1.2), which need Python 3.10 or 3.11 and a separate
environment: .venv-upstream here, or $MMFMKT_VENV-upstream.

HELP
        set_up_help
        exit
    elif [ -e "${argument%%::*}" ]; then
        tests=
    fi
done

python=$(set_up --stack "$stack")
if [ "$tests" ]; then
    "$python" -m ruff check --quiet
    "$python" -m ruff format --check --quiet
fi
# One process with one thread for each core; -n 0 runs tests in one process.
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
# tests/conftest.py sorts the tests: the longest files start first.
exec "$python" -m pytest -n auto --dist loadfile --no-loadscope-reorder \
    ${tests:+"$tests"} "$@"
