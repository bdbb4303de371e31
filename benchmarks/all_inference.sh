#!/usr/bin/env bash
# All measurements of inference for docs/benchmarks.md, the most important first; run it on a machine without other work.
#
#   benchmarks/all_inference.sh NETS MANIFEST RESULTS [PYTHON] [STEP...]
#
# NETS: the folder of sliding_window_nets.py; MANIFEST: skull-stripped T1 scans with tissue maps; RESULTS: where the
# figures go. What is in RESULTS already is not measured again, so the script may be interrupted and started again.
# Steps, with the minutes each takes on 2 cores: ct (5), memory (3), resident (5), mri-unet (2), mri-default-unet (1),
# mri-voxresnet (6), mri-default-voxresnet (5), nifti (2). Before, where the networks shall be better, and afterwards:
#
#   PYTHON benchmarks/sliding_window_nets.py --net ct-unet --out NETS --resume --cpu-seconds 240 --threads 2
#   PYTHON benchmarks/table.py RESULTS --write docs/benchmarks.md
set -euo pipefail

if (($# < 3)); then
    sed -n '2,/^set/p' "$0" | grep '^#' | cut -c3-
    exit 2
fi
nets=$1 manifest=$2 results=$3 python=${4:-python}
shift $(($# < 4 ? $# : 4))
steps=("$@")
here=$(dirname "$0")
mkdir -p "$results"

# step NAME FILE COMMAND...: run a command unless FILE is there already, and say how long it took
step() {
    local name=$1 file=$2 begin=$SECONDS
    shift 2
    if ((${#steps[@]})) && [[ " ${steps[*]} " != *" $name "* ]]; then
        return
    fi
    if [[ -e $results/$file ]]; then
        echo "== $name: $results/$file is there already"
        return
    fi
    echo "== $name, $(date +%T)"
    "$python" "$@" || echo "== $name FAILED; start the script again to go on with it" >&2
    echo "== $name: $((SECONDS - begin)) s"
}

window() {
    step "$1" "sliding_window_$2.json" "$here/sliding_window.py" --nets "$nets" --data "$manifest" --out "$results" "${@:3}"
}

window ct ct --work ct --repeats 2
window memory ct-memory --work ct-memory --narrow
step resident resident.json "$here/resident_predictor.py" --scans 20 --out "$results"
window mri-unet mri-unet --work mri-unet --repeats 3
window mri-default-unet mri-default-mri-unet --work mri-default --network mri-unet --repeats 3
window mri-voxresnet mri-voxresnet --work mri-voxresnet --repeats 1
window mri-default-voxresnet mri-default-mri-voxresnet --work mri-default --network mri-voxresnet --repeats 1
step nifti io.nifti-read.json "$here/io.py" --work nifti-read --output "$results" --folder "$results/parts/io"
"$python" "$here/table.py" "$results"
