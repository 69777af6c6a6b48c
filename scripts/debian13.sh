# Sourced by scripts/test: runs that script in Debian 13, in a root folder that debootstrap creates.
#
#   run_in_debian13 [ARGUMENTS OF scripts/test]
#
# The folder, $XDG_CACHE_HOME/invoicefs-debian13, and the packages installed in it are kept between
# runs. Only root can do this. Nothing stays mounted: all mounts are in a separate mount namespace.

set -euo pipefail

run_in_debian13() {
    local root=${XDG_CACHE_HOME:-$HOME/.cache}/invoicefs-debian13 checkout=$PWD
    [[ $(id -u) == 0 ]] || please "Only root can do this:" sudo scripts/test --debian13
    install_system_packages "$(missing_packages debootstrap rsync)"
    make_debian13 "$root"
    rsync -a --delete --exclude .git --exclude .venv --exclude '.*_cache' --exclude __pycache__ \
        "$checkout/" "$root/invoicefs/"
    # pivot_root, because programs in a chroot cannot create user namespaces: see unshare(2), EPERM.
    exec unshare --mount --propagation private bash -euc '
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
            PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin scripts/test "$@"
    ' bash "$root" "$@"
}

# Creates the folder if it is missing, and copies the network settings of this machine into it.
make_debian13() {
    local root=$1 file
    if [[ ! -e $root/invoicefs-made ]]; then
        echo "Installing Debian 13 in $root"
        rm -rf --one-file-system "$root"
        mkdir -p "$root"
        quietly debootstrap --variant=minbase --include=ca-certificates,python3-venv trixie "$root"
        ln -s ../proc/self/mounts "$root/etc/mtab"  # as in a regular installation
        touch "$root/invoicefs-made"
    fi
    for file in /etc/resolv.conf /etc/pip.conf /etc/ssl/certs/ca-certificates.crt \
        "$HOME/.config/pip/pip.conf"; do
        [[ ! -e $file ]] || install -D -m 644 "$file" "$root${file/#$HOME/\/root}"
    done
}
