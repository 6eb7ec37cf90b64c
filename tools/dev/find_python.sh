# Functions that quick_start.sh and run_tests.sh share.

root_dir=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
set_up_script=$root_dir/tools/dev/setup_env.py

# Print the command of a Python that setup_env.py supports with the given
# options: PYTHON if it is set, otherwise the first one found. If none is
# supported, print one that can run setup_env.py to report what is missing.
find_python() {
    local name fallback=
    if [ -n "${PYTHON:-}" ]; then
        if ! "$PYTHON" -c '' 2>/dev/null; then
            echo "set-up: PYTHON=$PYTHON does not start" >&2
            return 1
        fi
        echo "$PYTHON"
        return
    fi
    for name in python3 python3.12 python3.11 python3.10 python3.13 python; do
        # A command may exist and not work, for example one of pyenv.
        if "$name" "$set_up_script" --check-python "$@" \
            2>/dev/null; then
            echo "$name"
            return
        elif [ -z "$fallback" ] && "$name" -c \
            'import sys; sys.exit(sys.version_info < (3, 8))' 2>/dev/null; then
            fallback=$name
        fi
    done
    if [ -z "$fallback" ]; then
        echo 'set-up: no Python 3.10 to 3.13 was found: install one' \
            '(sudo apt install python3 python3-venv python3-dev on Debian' \
            'and Ubuntu), or name it by PYTHON=/path/to/python3' >&2
        return 1
    fi
    echo "$fallback"
}

# Set everything up and print the path of the virtual environment's Python.
# Takes the options of setup_env.py.
set_up() {
    local python
    python=$(find_python "$@") || return
    "$python" "$set_up_script" "$@"
}

# Print the help text that both commands share.
set_up_help() {
    cat <<'HELP'
The first run sets up a virtual environment with all requirements of mmfmkt
(about 8 GB; 5 to 15 minutes, mostly for compiling mmcv); later runs use it, and
an interrupted set-up continues. If torch, mmengine, mmcv and mmdet of the
Python that runs it work, they are used instead of being installed.

Environment variables:
  PYTHON         Python 3.10 to 3.13 to use (default: the first one found)
  MMFMKT_VENV    folder of the virtual environment (default: .venv here)
  CXX            C++ compiler for mmcv
  MAX_JOBS       files of mmcv to compile at once (default: one per core and
                 2 GB of memory)
  CUDA_HOME      CUDA toolkit to compile mmcv for an NVIDIA GPU
  CUDA_VISIBLE_DEVICES=''
                 use the CPU although there is a GPU
HELP
}
