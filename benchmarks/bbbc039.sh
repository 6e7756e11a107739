#!/usr/bin/env bash
# Quality from end to end: pseudo labels, and StarDist trained on 1 % of the cells with and
# without them, scored on images that no training saw. Prints one Markdown table.
#
#   benchmarks/bbbc039.sh DATA [OUT]
#
# DATA holds train/images, train/masks, test/images and test/masks. OUT (bbbc039-run) must not
# exist: a run that goes on where another stopped would tell wrong times.
set -euo pipefail

if [ $# -lt 1 ] || [ $# -gt 2 ]; then
    echo "usage: $0 DATA [OUT]" >&2
    exit 2
fi
data=$1
out=${2:-bbbc039-run}
PATH=$PATH:$(cd "$(dirname "$0")/.." && pwd)/.venv/bin
if ! command -v oce2stardist >/dev/null; then
    echo "oce2stardist must be on the PATH or in .venv/bin; run make venv." >&2
    exit 2
fi
for folder in train/images train/masks test/images test/masks; do
    if [ ! -d "$data/$folder" ]; then
        echo "$data must hold $folder." >&2
        exit 2
    fi
done
if [ -e "$out" ]; then
    echo "$out must not exist; remove it or choose another OUT." >&2
    exit 2
fi
mkdir -p "$out"
table=$out/table.md

# run NAME ARGUMENTS: times a command and adds its row.
run() {
    local name=$1 started=$SECONDS
    shift
    echo "\$ oce2stardist $*" >&2
    oce2stardist "$@" >&2
    echo "| $name | $((SECONDS - started)) | | |" >>"$table"
}

# score NAME PREDICTED TRUTH: does so for evaluate, with the scores.
score() {
    local name=$1 started=$SECONDS json scores
    shift
    echo "\$ oce2stardist evaluate $* --json" >&2
    json=$(oce2stardist evaluate "$@" --json)
    scores=$(python3 -c 'import json, sys
scores = json.load(sys.stdin)
print("{f1:.3f} | {seg:.3f}".format(**scores))' <<<"$json")
    echo "| $name | $((SECONDS - started)) | $scores |" >>"$table"
}

{
    echo "$(oce2stardist --version), $(uname -sm), $(getconf _NPROCESSORS_ONLN) cores, $(date +%F)"
    echo
    echo "| Command | Seconds | F1 | SEG |"
    echo "|---|---:|---:|---:|"
} >"$table"

run "pseudo train" pseudo "$data/train/images" -o "$out/pseudo"
score "evaluate pseudo labels, train" "$out/pseudo/pseudo/labels" "$data/train/masks"
for alpha in 0.5 0; do
    model=$out/alpha-$alpha
    with_pseudo=()
    if [ "$alpha" != 0 ]; then
        with_pseudo=(--pseudo "$out/pseudo")
    fi
    run "finetune, 1 % of the cells, alpha $alpha" finetune "$data/train/images" \
        ${with_pseudo[@]+"${with_pseudo[@]}"} --annotations "$data/train/masks" --fraction 0.01 \
        --alpha "$alpha" -o "$model"
    run "predict test, alpha $alpha" predict "$data/test/images" --model "$model" \
        -o "$out/predicted-$alpha"
    score "evaluate test, alpha $alpha" "$out/predicted-$alpha" "$data/test/masks"
done
cat "$table"
