#!/usr/bin/env bash
# Check and measure mmfmkt on a GPU, within a budget of MINUTES (default: 9).
# The folder OUT receives the results.
#
#     bash gpu.sh OUT [MINUTES] [options: --help]
#
# mmcv may be installed without operators: mmcv_ext.py then replaces them.
if [ $# -lt 1 ]; then
    echo "usage: gpu.sh OUT [MINUTES] [options: --help]" >&2
    exit 2
fi
started=$(date +%s)
mkdir -p "$1"
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$here
until [ -e "$root/setup.py" ]; do root=$(dirname "$root"); done
python=${PYTHON:-python3}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
export PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}"
mmcv=$("$python" - <<'END'
from importlib.util import find_spec
from pathlib import Path

spec = find_spec('mmcv')
folder = Path(spec.submodule_search_locations[0]) if spec else None
if folder and not list(folder.glob('_ext*')):
    print(folder)
END
)
if [ -n "$mmcv" ]; then
    cp -r "$mmcv" "$scratch/mmcv"
    cp "$here/mmcv_ext.py" "$scratch/mmcv/_ext.py"
    echo 'mmcv has no compiled operators: torchvision computes NMS'
fi
# MMPretrain cannot be imported if transformers 5 is installed. A module that
# cannot be imported then hides transformers.
if "$python" - <<'END'; then
import sys
from importlib.metadata import PackageNotFoundError, version

try:
    sys.exit(int(version('transformers').split('.')[0]) < 5)
except PackageNotFoundError:
    sys.exit(1)
END
    mkdir "$scratch/transformers-0.dist-info"
    printf 'Metadata-Version: 2.1\nName: transformers\nVersion: 0\n' \
        > "$scratch/transformers-0.dist-info/METADATA"
    echo "raise ImportError('hidden')" > "$scratch/transformers.py"
    echo 'transformers 5 is hidden from MMPretrain'
fi
export PYTHONPATH="$scratch:$PYTHONPATH"
export PYTHONUNBUFFERED=1 MPLBACKEND=Agg
"$python" "$here/gpu" "$1" --minutes "${2:-9}" --started "$started" "${@:3}" \
    2>> "$1/errors.log" || { tail -n 3 "$1/errors.log" >&2; exit 1; }
