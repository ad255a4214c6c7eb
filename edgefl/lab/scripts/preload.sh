# preload.sh IMAGE LAYER BUNDLE HASH: install a bundle above an image. Runs in mount and network namespaces of its own, without
# any network: what the bundle lacks must fail here as it would on a device. The commands are those of the runtime role.
image=$1 layer=$2 bundle=$3 hash=$4
cd "$layer"
mkdir rootfs work merged
mount -t overlay layer -o "lowerdir=$image/rootfs,upperdir=rootfs,workdir=work" merged
mount -t proc proc merged/proc
mount -t tmpfs tmpfs merged/tmp
mount --bind "$bundle" merged/mnt
printf '#!/bin/sh\nexit 101\n' >merged/usr/sbin/policy-rc.d # packages must not start services here
chmod 755 merged/usr/sbin/policy-rc.d

env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/tmp LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive chroot merged sh -euc '
  for deb in /mnt/debs/*.deb; do
    [ -e "$deb" ] || continue
    set -- "$@" "$deb"
  done
  hash=$0
  if [ $# -gt 0 ]; then
    dpkg --install --skip-same-version "$@"
    systemctl disable --quiet haproxy.service 2>/dev/null || true # the gate is a unit of its own
  fi
  venv=/opt/edgefl/venvs/$hash
  python3 -m venv "$venv"
  "$venv/bin/pip" install --quiet --disable-pip-version-check --no-cache-dir --no-index --no-deps --no-compile /mnt/wheels/*.whl
  "$venv/bin/python" -m compileall -q -j 0 "$venv/lib" >/dev/null || true # a package may carry files that are no Python 3
  printf "%s" "$hash" >"$venv/.complete"
' "$hash"

rm merged/usr/sbin/policy-rc.d
umount -R merged
rmdir merged
rm -r work
