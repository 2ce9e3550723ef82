#!/usr/bin/env bash
# From a fresh clone to a report: makes .venv, installs, trains and judges on the embedded default.
#
#   tools/quickstart.sh
#
# A second run reuses what is there and makes a new run folder.
set -euo pipefail
cd "$(dirname "$0")/.."
. tools/environment.sh

set_up ""
.venv/bin/perturbrl fit --config configs/hematopoiesis.yaml
.venv/bin/perturbrl test --config configs/hematopoiesis.yaml --ckpt_path last
