# Sourced by scripts/test and debian13.sh, after prepare.sh: the tiers of tests that need neither a
# screen nor a machine of their own.

# Installs what the tiers need: the programs with which the tests read mounts; strace counts the
# requests of the kernel, and nss_wrapper replaces the hosts file. Completion is tested in fish and
# zsh; man and mandoc check the manual pages.
prepare_tiers() {
    prepare dev borg cpio file fish getfattr gio git libnss_wrapper.so man mandoc mksquashfs mutool \
        openssl pdftotext qpdf rclone restic rsync strace zip zsh
}

run_tiers() {
    local tier
    for tier in unit http; do
        echo "== tests/$tier"
        pytest "tests/$tier" -n auto
    done
    echo "== tests/mount"
    pytest tests/mount -n 3 --dist loadgroup # they spend more time waiting than computing
}
