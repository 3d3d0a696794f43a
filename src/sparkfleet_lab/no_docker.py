"""Removal of Docker from a machine, with packages to install it from.

A lab machine has no package sources, since those of this computer may be private. So removed packages are
packed again into a directory that apt uses as a package source.
"""

from __future__ import annotations

REPOSITORY = "/srv/lab-apt"
SOURCE = "/etc/apt/sources.list.d/lab.list"
HOOK = "/usr/local/bin/nvidia-container-runtime-hook"
TOOLKIT_VERSION = "1.18.0-1"

_UPDATE = f"apt-get update -qq -o Dir::Etc::SourceList={SOURCE} -o Dir::Etc::SourceParts=-"

REMOVE_DOCKER = f"""
export LC_ALL=C.UTF-8
mkdir -p {REPOSITORY} /var/lib/lab
scratch=$(mktemp -d)
for package in docker.io tini; do
  tree=$scratch/$package
  mkdir -p $tree/DEBIAN
  dpkg -L $package | while read -r path; do
    [ -d "$path" ] || [ ! -e "$path" ] || echo ".$path"
  done | tar -C / -c -T - | tar -C $tree -x
  dpkg-query --status $package |
    awk '/^[^ ]/ {{ left_out = /^(Status|Conffiles|Built-Using):/ }} !left_out' > $tree/DEBIAN/control
  for part in preinst postinst prerm postrm conffiles; do
    [ ! -e /var/lib/dpkg/info/$package.$part ] || cp -p /var/lib/dpkg/info/$package.$part $tree/DEBIAN/$part
  done
done
tree=$scratch/nvidia-container-toolkit
mkdir -p $tree/DEBIAN $tree/usr/bin
cp {HOOK} $tree/usr/bin/
cp {HOOK} $tree/usr/bin/nvidia-ctk
printf 'Package: nvidia-container-toolkit\\nVersion: {TOOLKIT_VERSION}\\nArchitecture: all\\n%s\\n%s\\n' \\
  'Maintainer: Lab <lab@invalid>' 'Description: Stand-in' > $tree/DEBIAN/control
for tree in $scratch/*; do dpkg-deb --build --root-owner-group -Znone $tree {REPOSITORY} >/dev/null; done
rm -rf $scratch
cd {REPOSITORY}
for file in *.deb; do
  dpkg-deb --field $file
  printf 'Filename: ./%s\\nSize: %s\\n' $file $(stat -c %s $file)
  printf 'SHA256: %s\\n\\n' $(sha256sum < $file | cut -d' ' -f1)
done > Packages
echo 'deb [trusted=yes] file:{REPOSITORY} ./' > {SOURCE}
{_UPDATE}
rm -f /var/cache/apt/*.bin
mv {HOOK} /var/lib/lab/
dpkg --remove docker.io tini >/dev/null
rm -f /run/docker.sock
"""

RETURN_DOCKER = f"""
export DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8
if dpkg-query --status nvidia-container-toolkit >/dev/null 2>&1; then
  dpkg --purge nvidia-container-toolkit >/dev/null
fi
mv /var/lib/lab/nvidia-container-runtime-hook {HOOK}
command -v dockerd >/dev/null || apt-get install -qq -y --no-install-recommends docker.io >/dev/null 2>&1
systemctl reset-failed docker.service 2>/dev/null || true
systemctl restart docker.service
rm -rf {SOURCE} {REPOSITORY} /var/lib/apt/lists/*lab-apt*
"""
