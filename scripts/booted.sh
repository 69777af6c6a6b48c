# Sourced by scripts/test: runs tests/systemd in Debian 13 with systemd as process 1.
#
#   test_in_booted_debian13 [ARGUMENTS OF pytest]
#
# systemd-nspawn boots the root folder of debian13.sh, and exits with the status of pytest. All
# changes that the tests make are in an overlay in memory, which is gone at the end.

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
    export -f boot
    # With this script end all processes and mounts.
    PYTEST_ADDOPTS=${*@Q} \
        unshare --mount --propagation private --pid --fork --kill-child --mount-proc \
        bash -euc 'boot "$@"' bash "$debian13" "$work" || code=$?
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

# Boots the root folder $1 with the unit and the pipe in the folder $2.
boot() {
    local group code=0
    group=/sys/fs/cgroup/$(basename "$2")
    mount -t tmpfs tmpfs /run # systemd-nspawn leaves folders in it
    mount -t cgroup2 cgroup2 /sys/fs/cgroup # of version 2 whatever this machine has
    mkdir "$group"
    bash -euc 'echo 0 >"$1/cgroup.procs" && exec "${@:2}"' bash "$group" \
        systemd-nspawn --quiet --boot --register=no --keep-unit --machine=invoicefs-tests \
        --directory="$1" --volatile=overlay --resolv-conf=off --console=pipe --bind=/dev/fuse \
        --bind="$2/output:/output" --setenv=PYTEST_ADDOPTS="$PYTEST_ADDOPTS" --setenv=CI="${CI:-}" \
        --bind-ro="$2/invoicefs-tests.service:/etc/systemd/system/invoicefs-tests.service" \
        systemd.wants=invoicefs-tests.service systemd.show_status=no </dev/null || code=$?
    find "$group" -depth -type d -exec rmdir {} +
    return $code
}
