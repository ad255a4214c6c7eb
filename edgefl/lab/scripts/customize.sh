# customize.sh ROOTFS INIT NSPAWN UNIT...: the last step of building the image (mmdebstrap's customize hook).
rootfs=$1 init=$2 nspawn=$3
shift 3

# The hosts' PID 1.
install -D -m 755 "$init" "$rootfs/usr/local/sbin/edgefl-lab-init"

# The systemd-nspawn of the image's own systemd, kept beside the image: hosts have no use for it.
version=$(dpkg-query --admindir="$rootfs/var/lib/dpkg" -f '${Version}' -W systemd)
chroot "$rootfs" sh -euc "cd /tmp && apt-get -q download systemd-container=$version"
mkdir -p "$nspawn"
dpkg-deb -x "$rootfs"/tmp/systemd-container_*.deb "$nspawn"
rm "$rootfs"/tmp/systemd-container_*.deb

# Who a host is comes from the lab, before it boots: no keys, no name, no identity in the image.
rm -f "$rootfs"/etc/ssh/ssh_host_* "$rootfs/etc/hostname" "$rootfs/var/lib/dbus/machine-id"
: >"$rootfs/etc/machine-id"
: >"$rootfs/etc/resolv.conf"

printf '%s\n' 'PasswordAuthentication no' 'PermitRootLogin prohibit-password' 'UseDNS no' >"$rootfs/etc/ssh/sshd_config.d/lab.conf"
mkdir -p "$rootfs/etc/systemd/journald.conf.d"
printf '[Journal]\nSystemMaxUse=64M\n' >"$rootfs/etc/systemd/journald.conf.d/lab.conf"
for unit; do
  ln -sf /dev/null "$rootfs/etc/systemd/system/$unit"
done
