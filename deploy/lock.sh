#!/bin/sh
# Pins the ranges of pyproject.toml, with the hash of every archive, in three locks; `make lock` runs it.
# What is pinned already stays as it is while its range allows that: remove a line, or the file, to get a newer version.
# No lock names an index: what installs from it follows the settings of its machine.
set -eu
cd "$(dirname "$0")/.."
sh deploy/python.sh uv

# compile LOCK ARGUMENT…: the versions of one lock.
compile() {
    lock=$1
    shift
    .shopstream/uv/bin/uv pip compile -q --universal --python-version 3.11 --generate-hashes \
        --no-header --no-annotate "$@" pyproject.toml -o "$lock"
}

# weigh LOCK: says on its first line how much an installation fetches, for the line that `make demo` prints.
weigh() {
    folder=$(mktemp -d)
    .venv/bin/python -m pip download -q --require-hashes --no-deps --only-binary :all: -d "$folder" -r "$1"
    packages=$(find "$folder" -name '*.whl' | wc -l)
    bytes=$(cat "$folder"/*.whl | wc -c)
    rm -r "$folder"
    sed -i.before "1i\\
# $((packages)) packages, $((bytes / 1000000)) MB (wheels for $(uname -sm), Python 3.11)
" "$1"
    rm "$1.before"
}

compile requirements.lock --all-extras
compile deploy/requirements.lock --extra load -c requirements.lock
compile deploy/demo.lock --extra load --extra demo -c requirements.lock
weigh requirements.lock
weigh deploy/demo.lock
