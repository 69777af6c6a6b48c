# Sourced by scripts/test: runs tests/systemd in Debian 13 with systemd as process 1.
#
#   test_in_booted_debian13 [ARGUMENTS OF pytest]
#
# systemd-nspawn boots the root folder of debian13.sh, and exits with the status of pytest.

set -euo pipefail
source scripts/debian13.sh

test_in_booted_debian13() {
    local code=0
    run_in_debian13 bash -c 'source scripts/prepare.sh && prepare dev "$@"' bash \
        dbus-user-session rsync systemd-sysv
    install_system_packages "$(missing_packages systemd-nspawn)"
    work=$(mktemp -d --tmpdir invoicefs-tests.XXXXXX)
    trap 'rm -r "$work"' EXIT
    write_unit_of_tests "$work/invoicefs-tests.service"
    mkfifo "$work/output"
    cat "$work/output" &
    (boot "$debian13" --bind="$work/output:/output" \
        --setenv=PYTEST_ADDOPTS="${*@Q}" --setenv=CI="${CI:-}" \
        --bind-ro="$work/invoicefs-tests.service:/etc/systemd/system/invoicefs-tests.service" \
        systemd.wants=invoicefs-tests.service) || code=$?
    : <>"$work/output" # ends cat if the tests have not been started
    wait
    return $code
}

write_unit_of_tests() {
    cat >"$1" <<'END'
[Unit]
Description=Tests of invoicefs
After=multi-user.target
# The machine ends with the tests, and with their exit status.
SuccessAction=exit
FailureAction=exit

[Service]
Type=oneshot
WorkingDirectory=/invoicefs
Environment=HOME=/root LANG=C.UTF-8
PassEnvironment=CI PYTEST_ADDOPTS
ExecStart=/invoicefs/.venv/bin/pytest -p no:cacheprovider tests/systemd
StandardOutput=file:/output
StandardError=inherit
END
}

#   boot FOLDER [OPTION OF systemd-nspawn]... [OPTION OF THE KERNEL]...
#
# replaces this shell with a machine that has this root folder. All changes are in an overlay in
# memory. All processes and mounts end with the parent of this shell.
boot() {
    export -f boot_here
    exec setpriv --pdeathsig KILL \
        unshare --mount --propagation private --pid --fork --kill-child --mount-proc \
        bash -euc 'boot_here "$@"' bash "$@" </dev/null
}

boot_here() {
    local group=/sys/fs/cgroup/invoicefs-machine.$RANDOM$RANDOM code=0
    # The namespace has a copy of every mount, which would keep its process alive after an unmount.
    umount --all --lazy --no-canonicalize --types fuse.invoicefs
    mount -t tmpfs tmpfs /run # systemd-nspawn leaves folders in it
    mount -t cgroup2 cgroup2 /sys/fs/cgroup # of version 2 whatever this machine has
    mkdir "$group"
    bash -euc 'echo 0 >"$1/cgroup.procs" && exec "${@:2}"' bash "$group" \
        systemd-nspawn --quiet --boot --register=no --keep-unit --machine=invoicefs \
        --directory="$1" --volatile=overlay --resolv-conf=off --console=pipe --bind=/dev/fuse \
        "${@:2}" systemd.show_status=no || code=$?
    find "$group" -depth -type d -exec rmdir {} +
    return $code
}
