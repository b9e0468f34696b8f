# Runs when only the essential packages are there; $1 is the image's root folder.
set -eu
cd "$1"

# The official image's uid and gid.
echo 'mysql:x:999:999::/var/lib/mysql:/bin/bash' >>etc/passwd
echo 'mysql:x:999:' >>etc/group
