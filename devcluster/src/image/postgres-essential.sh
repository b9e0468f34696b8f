# Runs when only the essential packages are there; $1 is the image's root folder.
set -eu
cd "$1"

# The official image's uid and gid. The package keeps a user `postgres` that it finds; left alone it
# would take whatever number is free, and volumes would change hands with every build.
echo 'postgres:x:999:999::/var/lib/postgresql:/bin/bash' >>etc/passwd
echo 'postgres:x:999:' >>etc/group

# Otherwise the package initialises a cluster, 39 MB that nobody uses.
mkdir -p etc/postgresql-common
echo 'create_main_cluster = false' >etc/postgresql-common/createcluster.conf
