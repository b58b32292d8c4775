#!/bin/sh
# Programs with debug information for the scenarios past::*, from the distribution's packages:
# redis-server and sqlite3 from their sources (kept for inproc::*), python3 with its separate debug file.
#
#   crates/e2e/programs.sh [DIR]      (target/e2e-programs without it)
#
# Takes some minutes on two cores, installs nothing, and needs deb-src lists that can be fetched,
# a C compiler, make and tclsh. What cannot be had is left out, and its scenario skips. Run again, it
# makes what is missing.
set -u
cd "$(dirname "$0")/../.." || exit 1
mkdir -p "${1:-target/e2e-programs}"
dir=$(cd "${1:-target/e2e-programs}" && pwd) || exit 1
work=$dir/work
mkdir -p "$work/lists/partial"
key=/usr/share/keyrings/debian-archive-keyring.gpg
. /etc/os-release
for kind in deb-src deb; do
    echo "$kind [signed-by=$key] http://deb.debian.org/debian $VERSION_CODENAME main"
    echo "$kind [signed-by=$key] http://deb.debian.org/debian-security $VERSION_CODENAME-security main"
done >"$work/sources.list"
apt() {
    apt-get -qq -o Dir::Etc::SourceList="$work/sources.list" -o Dir::Etc::SourceParts=/dev/null \
        -o Dir::State::Lists="$work/lists" -o APT::Sandbox::User=root "$@"
}
listed=
lists() { [ -n "$listed" ] || { apt update && listed=1; } }
missing() { echo "no $1: $2; see $work/$1.log" >&2; }
jobs=$(nproc)

if [ ! -x "$dir/redis-server" ]; then
    (
        lists && cd "$work" && apt source redis && cd redis-[0-9]*/ &&
            make -s -j"$jobs" MALLOC=libc USE_SYSTEMD=no OPTIMIZATION=-O2 DEBUG=-g redis-server &&
            cp src/redis-server "$dir/"
    ) >"$work/redis.log" 2>&1 || missing redis "not built"
fi
if [ ! -x "$dir/sqlite3" ]; then
    (
        lists && cd "$work" && apt source sqlite3 && cd sqlite3-[0-9]*/ &&
            ./configure -q --disable-tcl --disable-readline && make -s sqlite3.c shell.c &&
            cc -g -O1 -DSQLITE_OMIT_LOAD_EXTENSION -I. shell.c sqlite3.c -o "$dir/sqlite3" -lpthread -lm
    ) >"$work/sqlite.log" 2>&1 || missing sqlite "not built"
fi
# Sources that the scenarios inproc::* build with still cc.
if [ ! -d "$dir/redis-src" ]; then
    (lists && cd "$work" && apt source redis && mv redis-[0-9]*/ "$dir/redis-src") \
        >"$work/redis-src.log" 2>&1 || missing redis-src "no sources"
fi
if [ ! -f "$dir/sqlite3.c" ]; then
    (
        lists && cd "$work" && rm -rf sqlite3-[0-9]*/ && apt source sqlite3 && cd sqlite3-[0-9]*/ &&
            ./configure -q --disable-tcl --disable-readline && make -s sqlite3.c &&
            cp sqlite3.h sqlite3.c "$dir/"
    ) >"$work/sqlite-src.log" 2>&1 || missing sqlite-src "no amalgamation"
fi
if [ ! -x "$dir/python/usr/bin/python3" ]; then
    (
        lists && cd "$work" && version=$(apt-cache -o Dir::Etc::SourceList="$work/sources.list" \
            -o Dir::Etc::SourceParts=/dev/null -o Dir::State::Lists="$work/lists" \
            depends python3-minimal | sed -n 's/.*Depends: \(python3\.[0-9]*\)-minimal$/\1/p' | head -1) &&
            apt download "$version-dbg" "$version-minimal" "lib$version-minimal" "lib$version-stdlib" &&
            for package in "$version"*.deb "lib$version"*.deb; do
                dpkg -x "$package" "$work/python" || exit 1
            done && ln -s "$version" "$work/python/usr/bin/python3" &&
            rm -f "$work/python/usr/bin/$version-dbg" && mv "$work/python" "$dir/python"
    ) >"$work/python.log" 2>&1 || missing python "no packages"
fi
rm -rf "$work"/*/ "$work"/*.deb "$work"/*.tar.* "$work"/*.dsc
mkdir -p "$work/lists/partial"
ls "$dir" | grep -v '^work$'
