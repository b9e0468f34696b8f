# Runs when all packages are there; $1 is the image's root folder.
set -eu
cd "$1"

# The exact version, for the image's other name.
dpkg-query --admindir=var/lib/dpkg --show --showformat='${Version}' "$PACKAGE" >"$SCRATCH/version"

# Folders that the official image has, with its owner and modes.
rm -rf var/lib/mysql
install -d -o 999 -g 999 -m 1777 var/lib/mysql run/mysqld

# What the server, its client and a dump never open.
rm -rf usr/share/perl usr/share/perl5 usr/bin/perl* \
    usr/lib/*-linux-gnu/perl usr/lib/*-linux-gnu/perl-base usr/lib/*-linux-gnu/perl5 usr/lib/*-linux-gnu/libperl.so*
rm -rf usr/bin/apt* usr/lib/apt usr/lib/*-linux-gnu/libapt-p* var/lib/apt var/cache/* var/log/* \
    usr/bin/dpkg* usr/lib/dpkg usr/share/dpkg var/lib/dpkg usr/share/debconf usr/share/bug usr/share/keyrings
rm -rf usr/share/i18n usr/lib/*-linux-gnu/gconv usr/lib/*-linux-gnu/libdb-5* \
    usr/bin/sqv usr/bin/openssl usr/share/bash-completion usr/share/common-licenses
rm -rf usr/bin/mysqlslap usr/bin/mysqlimport usr/bin/mysql_migrate_keyring usr/bin/mysqldumpslow usr/bin/ibd2sdi \
    usr/bin/myisam* usr/lib/mysql/plugin/telemetry_client.so usr/lib/mysql/plugin/component_telemetry.so
