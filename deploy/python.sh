#!/bin/sh
# Makes .venv from Python 3.11 or 3.12 and installs requirements.lock into it; with the argument `uv` it only puts uv
# into .shopstream/uv. pip follows the machine's own settings, and nothing is written outside the checkout.
set -eu
cd "$(dirname "$0")/.."
export PIP_DISABLE_PIP_VERSION_CHECK=1

say() { echo "python: $*" >&2; }

# The first program that exists and passes a test in Python.
first_python() {
    for name in ${PYTHON:-} python3 python3.12 python3.11 python; do
        if "$name" -c "$1" >/dev/null 2>&1; then
            command -v "$name"
            return 0
        fi
    done
    return 1
}

FITS='import sys; assert sys.version_info[:2] in ((3, 11), (3, 12))'

# uv from pip, checked by hash; in an environment of its own, or beside one where Debian left venv out.
put_uv() {
    [ -x .shopstream/uv/bin/uv ] && .shopstream/uv/bin/uv --version >/dev/null 2>&1 && return 0
    rm -rf .shopstream/uv
    mkdir -p .shopstream
    if other=$(first_python 'import venv, ensurepip'); then
        "$other" -m venv .shopstream/uv >.shopstream/uv.log 2>&1 &&
            .shopstream/uv/bin/python -m pip install -q --require-hashes -r deploy/uv.txt >>.shopstream/uv.log 2>&1
    elif other=$(first_python 'import pip'); then
        "$other" -m pip install -q --target .shopstream/uv --require-hashes -r deploy/uv.txt >.shopstream/uv.log 2>&1
    else
        return 1
    fi
}

# Python 3.12 through uv, into .shopstream/python.
python_by_uv() {
    say "no usable Python 3.11 or 3.12 here; getting 3.12 through uv"
    put_uv || return 1
    export UV_PYTHON_INSTALL_DIR="$PWD/.shopstream/python"
    uv=.shopstream/uv/bin/uv
    "$uv" python install --no-bin 3.12 >>.shopstream/uv.log 2>&1 || return 1
    "$uv" python find --managed-python 3.12 2>>.shopstream/uv.log
}

make_venv() {
    if python=$(first_python "$FITS; import venv, ensurepip"); then
        "$python" -m venv --clear .venv
    elif python=$(first_python "$FITS; import virtualenv"); then
        "$python" -m virtualenv -q --clear .venv
    elif python=$(python_by_uv) && [ -n "$python" ]; then
        "$python" -m venv --clear .venv
    elif python=$(first_python "$FITS"); then
        say "$python has no venv module: install it (Debian and Ubuntu: apt-get install python3-venv)"
        return 1
    else
        say "install Python 3.11 or 3.12 with venv (3.12 could not be had through uv either), or name one: make PYTHON=…"
        return 1
    fi
}

if [ "${1:-venv}" = uv ]; then
    put_uv || { say "uv cannot be installed; see .shopstream/uv.log"; exit 1; }
    exit 0
fi

# Two makes at once in a fresh checkout: the second waits, and finds the work done.
mkdir -p .shopstream
exec 9>.shopstream/python.lock
if command -v flock >/dev/null; then flock 9; fi
if [ -e .venv/.installed ] && [ -z "$(find requirements.lock deploy/python.sh -newer .venv/.installed)" ]; then
    exit 0
fi

make_venv
say "installing requirements.lock into .venv"
.venv/bin/python -m pip install -q --require-hashes --no-deps -r requirements.lock
touch .venv/.installed
