#!/usr/bin/env bash
# From nothing to a trained classifier: environment, install, training on sample_data/, export, prediction.
#   bash scripts/demo.sh                                    needs Python 3.10 to 3.13 and bash
set -euo pipefail
# shellcheck source=scripts/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

DATA=sample_data/objects
RUN=runs/demo
MISSING=3 # imgclf's exit code where the environment lacks something, such as weights

train() {
    local overwrite=()
    if [ -e "$RUN" ]; then overwrite=(--overwrite); fi
    say "imgclf train $DATA --out $RUN $*"
    imgclf train "$DATA" --out "$RUN" ${overwrite[@]+"${overwrite[@]}"} "$@"
}

make_environment ""
cd "$ROOT"
status=0
train || status=$?
if [ "$status" -eq "$MISSING" ]; then
    say "no ImageNet weights here (see above): training the small network from nothing instead"
    status=0
    train --backbone tiny || status=$?
fi
if [ "$status" -ne 0 ]; then exit "$status"; fi

say "imgclf predict $RUN/exports/model_float16.tflite $DATA/star/star_00*.jpg"
imgclf predict "$RUN/exports/model_float16.tflite" "$DATA"/star/star_00*.jpg
say "done; open the report: $ROOT/$RUN/report.html"
