# Runs when all packages are there; $1 is the image's root folder.
set -eu
cd "$1"

# The exact version, for the image's other name.
case "$PACKAGE" in
    postgresql-*) dpkg-query --admindir=var/lib/dpkg --show --showformat='${Version}' "$PACKAGE" >"$SCRATCH/version" ;;
esac

# Folders that the official image has, with its owner and modes.
rm -rf var/lib/postgresql/* etc/postgresql/*
install -d -o 999 -g 999 -m 1777 var/lib/postgresql var/lib/postgresql/data
install -d -o 999 -g 999 -m 3777 run/postgresql

# What the server and its clients never open. Without perl, /usr/bin/psql (a wrapper) is broken:
# the image's PATH starts with the real programs.
rm -rf usr/share/perl usr/share/perl5 usr/share/perl-openssl-defaults usr/bin/perl* \
    usr/lib/*-linux-gnu/perl usr/lib/*-linux-gnu/perl-base usr/lib/*-linux-gnu/perl5 usr/lib/*-linux-gnu/libperl.so*
rm -rf usr/bin/apt* usr/lib/apt usr/lib/*-linux-gnu/libapt-p* var/lib/apt var/cache/* var/log/* \
    usr/bin/dpkg* usr/lib/dpkg usr/share/dpkg var/lib/dpkg usr/share/debconf usr/share/bug usr/share/keyrings
rm -rf usr/share/i18n usr/lib/*-linux-gnu/gconv usr/lib/*-linux-gnu/libmvec* usr/lib/*-linux-gnu/libdb-5* \
    usr/bin/sqv usr/bin/openssl usr/share/bash-completion usr/share/common-licenses \
    usr/share/postgresql-common usr/lib/postgresql/*/lib/pgxs
