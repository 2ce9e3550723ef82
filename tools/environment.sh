# Sourced by quickstart.sh and test.sh: a virtual environment in .venv with the project and the named extras.
#
#   set_up EXTRAS        for example: set_up ""   or   set_up "test,dev"
#
# pip's own settings (pip.conf, PIP_INDEX_URL, PIP_FIND_LINKS, ...) are honoured. PYTHON picks the interpreter.

TORCH="${PERTURBRL_TORCH:-torch==2.13.0}"

set_up() {
    local extras="$1" python="${PYTHON:-python3}" stamp
    if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
        echo "perturbrl needs Python 3.11 or newer, and '$python' is not; set PYTHON to one that is" >&2
        return 2
    fi
    if [ ! -x .venv/bin/python ]; then
        echo "Making a virtual environment in .venv"
        "$python" -m venv .venv
    fi
    stamp=".venv/installed-$(echo "$TORCH $extras" "$(cat pyproject.toml)" | cksum | cut -d' ' -f1)"
    if [ -e "$stamp" ]; then
        echo "Using what is installed in .venv"
        return 0
    fi
    if ! .venv/bin/python -c 'import torch' 2>/dev/null; then
        echo "Downloading PyTorch ($TORCH: about 200 MB as a CPU build; set PERTURBRL_TORCH for another one)"
        .venv/bin/python -m pip install --quiet --disable-pip-version-check "$TORCH"
    fi
    echo "Downloading Lightning, TorchRL, scanpy and what they need${extras:+, and the extras $extras} (about 300 MB)"
    .venv/bin/python -m pip install --quiet --disable-pip-version-check -e ".${extras:+[$extras]}"
    touch "$stamp"
}
