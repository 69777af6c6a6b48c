# Sourced by scripts/test: runs the checkout in Debian 13, in a root folder that debootstrap creates.
#
#   test_in_debian13 [ARGUMENTS OF pytest]
#   run_in_debian13 PROGRAM [ARGUMENTS]
#
# The first runs tests: with no arguments those of unit, http and mount, all of them, because each
# may depend on the Python or the libraries of the distribution.
#
# The folder, $XDG_CACHE_HOME/invoicefs-debian13, and the packages installed in it are kept between
# runs, until `create_debian` changes. Only root can do this. Nothing stays mounted: all mounts are in
# a separate mount namespace.

set -euo pipefail

debian13=${XDG_CACHE_HOME:-$HOME/.cache}/invoicefs-debian13

test_in_debian13() {
    run_in_debian13 bash -euc '
        source scripts/prepare.sh
        source scripts/tiers.sh
        prepare_tiers
        if [[ $# -gt 0 ]]; then
            exec pytest "$@"
        fi
        run_tiers
    ' bash "$@"
}

run_in_debian13() {
    [[ $(id -u) == 0 ]] || please "Only root can do this. Put this before the command:" sudo
    install_system_packages "$(missing_packages debootstrap rsync)"
    make_debian trixie "$debian13" python3-venv
    rsync -a --delete --exclude .git --exclude '.venv*' --exclude '.*_cache' --exclude __pycache__ \
        "$PWD/" "$debian13/invoicefs/"
    run_in_root "$debian13" env --chdir=/invoicefs "$@"
}

#   run_in_root FOLDER PROGRAM [ARGUMENTS]
run_in_root() {
    # pivot_root, because programs in a chroot cannot create user namespaces: see unshare(2), EPERM.
    unshare --mount --propagation private bash -euc '
        cd "$1"
        shift
        mount --bind . .
        cd "$PWD"
        for folder in proc sys dev; do
            mount --rbind "/$folder" "$folder"
        done
        pivot_root . .
        umount --lazy .
        exec env HOME=/root LANG=C.UTF-8 \
            PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "$@"
    ' bash "$@"
}

#   make_debian SUITE FOLDER PACKAGE...
#
# creates the root folder unless exactly these instructions have created it.
make_debian() {
    local suite=$1 root=$2 instructions
    instructions="$(declare -f create_debian) $*"
    if [[ $(cat "$root/invoicefs-made" 2>/dev/null) != "$instructions" ]]; then
        echo "Installing Debian ($suite) in $root"
        create_debian "$@"
        echo "$instructions" >"$root/invoicefs-made"
    fi
    quietly run_in_root "$root" dpkg --configure -a # if an installation in it was interrupted
    copy_network_settings "$root"
}

create_debian() {
    local suite=$1 root=$2
    rm -rf --one-file-system "$root"
    mkdir -p "$root"
    quietly debootstrap --variant=minbase --include=ca-certificates "$suite" "$root"
    ln -s ../proc/self/mounts "$root/etc/mtab" # as in a regular installation
    # Nothing is started by the installation of a package: see /usr/share/doc/init-system-helpers.
    printf '#!/bin/sh\nexit 101\n' | install -m 755 /dev/stdin "$root/usr/sbin/policy-rc.d"
    copy_network_settings "$root"
    # apt, because debootstrap installs no package that several others provide.
    quietly run_in_root "$root" apt-get update -q
    quietly run_in_root "$root" env DEBIAN_FRONTEND=noninteractive \
        apt-get install -y -q --no-install-recommends "${@:3}"
}

# Copies those of this machine.
copy_network_settings() {
    local file
    for file in /etc/resolv.conf /etc/pip.conf /etc/ssl/certs/ca-certificates.crt \
        "$HOME/.config/pip/pip.conf"; do
        [[ ! -e $file ]] || install -D -m 644 "$file" "$1${file/#$HOME/\/root}"
    done
}
