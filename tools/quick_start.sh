#!/usr/bin/env bash
# Sets everything up, then runs tools/quick_start.py with the same arguments.
set -euo pipefail

. "$(dirname "${BASH_SOURCE[0]}")/find_python.sh"

for argument in "$@"; do
    if [ "$argument" = -h ] || [ "$argument" = --help ]; then
        echo 'usage: bash tools/quick_start.sh [options of quick_start.py]'
        echo
        set_up_help
        echo
        python=${MMFMKT_VENV:-$tools_dir/../.venv}/bin/python
        if [ ! -x "$python" ]; then
            echo 'The options of quick_start.py are shown here once it is set' \
                'up.'
            exit
        fi
        exec "$python" "$tools_dir/quick_start.py" --help
    fi
done

python=$(set_up)
cd "$tools_dir/.."
exec "$python" tools/quick_start.py "$@"
