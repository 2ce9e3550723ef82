#!/usr/bin/env bash
# The whole test suite in an environment of its own making; arguments go to pytest.
#
#   tools/test.sh                 everything
#   tools/test.sh -m "not slow"   the fast tests
set -euo pipefail
cd "$(dirname "$0")/.."
. tools/environment.sh

set_up "${PERTURBRL_EXTRAS:-test}"
# One thread per process: the tests are many and small, and threads of two processes would get in each other's way.
OMP_NUM_THREADS=1 RL_WARNINGS=0 .venv/bin/python -m pytest -n "${PERTURBRL_TEST_JOBS:-2}" --dist worksteal "$@"
