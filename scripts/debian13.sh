# Sourced by scripts/test: runs a program of the checkout in Debian 13, in a root folder that
# debootstrap creates.
#
#   run_in_debian13 PROGRAM [ARGUMENTS]
#
# The folder, $XDG_CACHE_HOME/invoicefs-debian13, and the packages installed in it are kept between
# runs. Only root can do this. Nothing stays mounted: all mounts are in a separate mount namespace.

set -euo pipefail

debian13=${XDG_CACHE_HOME:-$HOME/.cache}/invoicefs-debian13

run_in_debian13() {
    [[ $(id -u) == 0 ]] || please "Only root can do this. Put this before the command:" sudo
    install_system_packages "$(missing_packages debootstrap rsync)"
    make_debian13
    rsync -a --delete --exclude .git --exclude .venv --exclude '.*_cache' --exclude __pycache__ \
        "$PWD/" "$debian13/invoicefs/"
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
        exec env --chdir=/invoicefs HOME=/root LANG=C.UTF-8 \
            PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "$@"
    ' bash "$debian13" "$@"
}

# Creates the folder if it is missing, and copies the network settings of this machine into it.
make_debian13() {
    local file
    if [[ ! -e $debian13/invoicefs-made ]]; then
        echo "Installing Debian 13 in $debian13"
        rm -rf --one-file-system "$debian13"
        mkdir -p "$debian13"
        quietly debootstrap --variant=minbase --include=ca-certificates,python3-venv trixie "$debian13"
        ln -s ../proc/self/mounts "$debian13/etc/mtab"  # as in a regular installation
        touch "$debian13/invoicefs-made"
    fi
    # Nothing is started by the installation of a package: see /usr/share/doc/init-system-helpers.
    printf '#!/bin/sh\nexit 101\n' | install -m 755 /dev/stdin "$debian13/usr/sbin/policy-rc.d"
    for file in /etc/resolv.conf /etc/pip.conf /etc/ssl/certs/ca-certificates.crt \
        "$HOME/.config/pip/pip.conf"; do
        [[ ! -e $file ]] || install -D -m 644 "$file" "$debian13${file/#$HOME/\/root}"
    done
}
