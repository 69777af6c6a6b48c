# Sourced by scripts/test: root folders of Debian 12 and 13, on which tests/packages installs the
# Debian package.
#
# The folders, $XDG_CACHE_HOME/invoicefs-machines/SUITE, are kept between runs, see `make_debian`. They
# have what a machine of a user has, but nothing that the package depends on: not even Python.

set -euo pipefail
source scripts/booted.sh

machines=${XDG_CACHE_HOME:-$HOME/.cache}/invoicefs-machines

make_machines() {
    local suite
    [[ $(id -u) == 0 ]] || please "Only root can do this. Put this before the command:" sudo
    install_system_packages "$(missing_packages debootstrap systemd-nspawn)"
    for suite in bookworm trixie; do
        make_debian "$suite" "$machines/$suite" \
            adduser bash-completion dbus-user-session man-db netbase systemd-sysv
    done
}

#   boot_machine SUITE PACKAGE
#
# replaces this shell with the machine, as `boot` does. The machine can read the folder of the package.
boot_machine() {
    boot "$machines/$1" --bind-ro="$(dirname "$2"):/packages"
}
