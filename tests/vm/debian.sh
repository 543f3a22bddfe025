#!/bin/sh
# Makes the root of a Debian with systemd, docker, podman and a user of number 1000, at $1: of suite $2, from mirror $3, with
# the kernel's modules of directory $4. `cargo xtask vm --debian` calls it, in a mount namespace of its own.
set -eu
root=$1 suite=$2 mirror=$3 modules=$4

packages="systemd systemd-sysv dbus dbus-user-session libpam-systemd udev kmod iproute2 iptables
    docker.io docker-cli podman crun runc uidmap slirp4netns passt netavark fuse-overlayfs
    systemd-container stress-ng busybox-static strace tmux procps"

debootstrap --variant=minbase "$suite" "$root" "$mirror"
# No service starts while it is installed.
printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d"
chmod 755 "$root/usr/sbin/policy-rc.d"
mount -t proc proc "$root/proc"
export DEBIAN_FRONTEND=noninteractive
chroot "$root" apt-get update -qq
# shellcheck disable=SC2086
chroot "$root" apt-get install -qq -y --no-install-recommends $packages
chroot "$root" apt-get clean
rm "$root/usr/sbin/policy-rc.d"

mkdir -p "$root/usr/lib/modules"
cp -a "$modules" "$root/usr/lib/modules/"
chroot "$root" depmod "$(basename "$modules")"

chroot "$root" useradd --create-home --uid 1000 --shell /bin/bash user
mkdir -p "$root/var/lib/systemd/linger"
# The user's manager runs without a login.
touch "$root/var/lib/systemd/linger/user"
echo debian >"$root/etc/hostname"
printf '127.0.0.1 localhost\n127.0.1.1 debian\n' >"$root/etc/hosts"
: >"$root/etc/fstab"

# Tests start engines of their own.
for unit in docker.service docker.socket containerd.service podman.socket serial-getty@ttyS0.service getty@tty1.service \
    apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer fstrim.timer; do
    ln -sf /dev/null "$root/etc/systemd/system/$unit"
done

cat >"$root/usr/local/sbin/run-tests" <<'END'
#!/bin/sh
# Runs the plan of the second disk, at the path that the workspace has on the host.
set -eu
mkdir -p /mnt/tests
mount -t ext4 /dev/vdb /mnt/tests
workspace=$(cat /mnt/tests/workspace)
mkdir -p "$workspace"
mount --bind "/mnt/tests$workspace" "$workspace"
exec /mnt/tests/usr/bin/guest plan /mnt/tests
END
chmod 755 "$root/usr/local/sbin/run-tests"

cat >"$root/etc/systemd/system/tests.service" <<'END'
[Unit]
Description=Tests of the workspace
After=multi-user.target user@1000.service
Wants=user@1000.service

[Service]
Type=oneshot
ExecStart=/usr/local/sbin/run-tests
ExecStopPost=/usr/bin/systemctl poweroff --force --force
StandardOutput=tty
StandardError=tty
TTYPath=/dev/ttyS0
Delegate=yes

[Install]
WantedBy=default.target
END
chroot "$root" systemctl enable tests.service
umount "$root/proc"
