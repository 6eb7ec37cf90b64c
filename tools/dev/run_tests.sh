#!/usr/bin/env bash
# Sets everything up, then runs style checks and all tests, or the tests named.
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

Without tests named, checks the style (ruff) and runs all tests but the slow
ones of the maintainers' tools, which are in tests/dev:
bash tools/dev/run_tests.sh tests/dev

--stack upstream runs them on the last releases of OpenMMLab itself (torch 2.1,
mmcv 2.1, mmdet 3.3, mmpretrain 1.2), which need Python 3.10 or 3.11 and get an
environment of their own: .venv-upstream here, or $MMFMKT_VENV-upstream.

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
# One process for each core, each of one thread; -n 0 does without.
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
# In our own order (tests/conftest.py): the longest files first.
exec "$python" -m pytest -n auto --dist loadfile --no-loadscope-reorder \
    ${tests:+"$tests"} "$@"
