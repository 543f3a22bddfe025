#!/bin/busybox sh
# The first process of a virtual machine's initial file system: loads the kernel's modules, and makes the disk the root.
# tests/src/bin/guest.rs goes on from there, or what FIRST names, a word of the kernel's command line. `cargo xtask vm` puts this, busybox and the modules there.
busybox() { /bin/busybox "$@"; }
busybox mkdir -p /dev /new
busybox mount -t devtmpfs dev /dev
for module in /modules/*; do busybox insmod $module || echo "@ broken: insmod $module"; done
until [ -b /dev/vda ]; do busybox sleep 0.1; done
busybox mount -t ext4 /dev/vda /new
if [ -e /new/plan ]; then
    # Who built the disk may not have been root.
    busybox chown -R 0:0 /new
    busybox chmod 1777 /new/tmp /new/var/tmp
fi
busybox umount /dev
exec /bin/busybox switch_root /new /sbin/${FIRST:-guest}
