#!/usr/bin/env bash
# Sets everything up, then runs the tests: all, or those named.
set -euo pipefail

. "$(dirname "${BASH_SOURCE[0]}")/find_python.sh"

cd "$tools_dir/.."
tests=tests
for argument in "$@"; do
    if [ "$argument" = -h ] || [ "$argument" = --help ]; then
        echo 'usage: bash tools/run_tests.sh [tests/...] [options of pytest]'
        echo
        set_up_help
        exit
    elif [ -e "${argument%%::*}" ]; then
        tests=
    fi
done

python=$(set_up)
# One process for each core, each of one thread; -n 0 does without.
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
# In our own order (tests/conftest.py): the longest files first.
exec "$python" -m pytest -n auto --dist loadfile --no-loadscope-reorder \
    ${tests:+"$tests"} "$@"
