#!/bin/sh
# Makes .venv from Python 3.11 or 3.12 and installs a lock into it. The argument says which:
#   demo   deploy/demo.lock: what the demo needs
#   all    requirements.lock: everything, the tools of development too; it adds to what `demo` installed
#   uv     none: only uv into .shopstream/uv
# uv and pip follow this machine's own settings of pip; besides their caches nothing outside the checkout is written.
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

# uv from pip, checked by hash; in a folder of its own, by whichever Python has pip, or in an environment for it alone.
put_uv() {
    [ -x .shopstream/uv/bin/uv ] && .shopstream/uv/bin/uv --version >/dev/null 2>&1 && return 0
    rm -rf .shopstream/uv
    mkdir -p .shopstream
    say "fetching uv, which installs the rest (20 MB)"
    if [ -x .venv/bin/python ] && .venv/bin/python -c 'import pip' 2>/dev/null; then
        pip_of=.venv/bin/python
    elif other=$(first_python 'import pip'); then
        pip_of=$other
    elif other=$(first_python 'import venv, ensurepip'); then
        "$other" -m venv .shopstream/uv >.shopstream/uv.log 2>&1 &&
            .shopstream/uv/bin/python -m pip install -q --require-hashes -r deploy/uv.txt >>.shopstream/uv.log 2>&1
        return
    else
        return 1
    fi
    "$pip_of" -m pip install -q --target .shopstream/uv --require-hashes -r deploy/uv.txt >.shopstream/uv.log 2>&1
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

lock_of() { if [ "$1" = demo ]; then echo deploy/demo.lock; else echo requirements.lock; fi; }

marker_of() { if [ "$1" = demo ]; then echo .venv/.installed-demo; else echo .venv/.installed; fi; }

# Whether a level is installed as its lock and this file have it.
is_fresh() {
    [ -e "$(marker_of "$1")" ] && [ -z "$(find "$(lock_of "$1")" deploy/python.sh -newer "$(marker_of "$1")")" ]
}

level=${1:-all}
case $level in
uv)
    put_uv || { say "uv cannot be installed; see .shopstream/uv.log"; exit 1; }
    exit 0
    ;;
demo | all) ;;
*)
    say "unknown level $level: demo, all or uv"
    exit 2
    ;;
esac

# Two makes at once in a fresh checkout: the second waits, and finds the work done.
mkdir -p .shopstream
exec 9>.shopstream/python.lock
if command -v flock >/dev/null; then flock 9; fi

if is_fresh all; then
    touch .venv/.installed-demo # requirements.lock has all that deploy/demo.lock has
    exit 0
fi
if [ "$level" = demo ] && is_fresh demo; then exit 0; fi
# What a lock does not have any more must go: only to a demo's environment the rest is added.
if ! is_fresh demo || [ -e .venv/.installed ]; then
    rm -f .venv/.installed .venv/.installed-demo
    make_venv
fi
put_uv || say "uv cannot be had (see .shopstream/uv.log): pip installs, which takes longer"
.venv/bin/python -m deploy.install "$(lock_of "$level")"
touch .venv/.installed-demo "$(marker_of "$level")"
