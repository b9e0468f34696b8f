# Runs when all packages are there; $1 is the image's root folder, and $SCRATCH holds the unpacked artefact, which has
# its files in an archive of their own.
set -eu
cd "$1"

programs=usr/lib/postgresql/17
mkdir -p "$programs"
tar -C "$programs" --no-same-owner -xJf "$SCRATCH"/artefact/postgres-*.txz
