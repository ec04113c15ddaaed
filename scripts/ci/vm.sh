# QEMU and Debian's kernels, unpacked and not installed, for vm-test; sourced.
# shellcheck shell=bash

# vm keeps them from run to run.
vm=${XSK_VM:-/var/tmp/xsk-vm$( ((EUID == 0)) || id -un | sed s/^/-/)}

codename=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
patience=3000 # seconds for a guest

# apt_with DIR COMMAND... runs apt-get or apt-cache on the lists and archives in
# DIR, as any user: it locks nothing and changes nothing of this system's.
apt_with() {
	local dir=$1 command=$2
	shift 2
	"$command" -q -o Dir::Etc::SourceList="$dir/sources.list" -o Dir::Etc::SourceParts=/dev/null \
		-o Dir::Etc::Preferences=/dev/null -o Dir::Etc::PreferencesParts=/dev/null \
		-o Dir::State::Lists="$dir/lists" -o Dir::Cache="$dir" -o Dir::Cache::Archives="$dir/archives" \
		-o Debug::NoLocking=1 -o APT::Sandbox::User="$(id -un)" -o Acquire::Languages=none \
		-o Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false "$@"
}

# lists DIR SUITE reads what the suite has, from where this system's packages come.
lists() {
	local uri keys=/usr/share/keyrings/debian-archive-keyring.gpg
	uri=$(mirror "$codename")
	[[ -n $uri ]] || die "apt has no Debian mirror of $codename here, where QEMU and the kernels could come from"
	mkdir -p "$1"/{lists,archives}/partial "$1/root" &&
		echo "deb [signed-by=$keys] $uri $2 main" >"$1/sources.list" &&
		apt_with "$1" apt-get update
}

# unpack DIR makes a folder DIR/root of the archives.
unpack() {
	local archive
	for archive in "$1"/archives/*.deb; do
		dpkg-deb -x "$archive" "$1/root" || return
	done
	rm -r "$1"/{lists,archives}
}

# fetch_tools DIR gets QEMU, such libraries of it as are not here, and busybox.
fetch_tools() {
	lists "$1" "$codename" &&
		apt_with "$1" apt-get -y --no-install-recommends --reinstall --download-only install \
			qemu-system-x86 busybox-static &&
		unpack "$1"
}

# fetch_kernel DIR SUITE gets the suite's cloud kernel: DIR/vmlinuz, and what the
# tests need that is not built in as DIR/*.ko.
fetch_kernel() {
	local packages file module
	lists "$1" "$2" &&
		packages=$(apt_with "$1" apt-cache depends --recurse --important linux-image-cloud-amd64 |
			grep -E '^linux-(image|binary|modules)-[0-9]') || return
	# shellcheck disable=SC2086
	(cd "$1/archives" && apt_with "$1" apt-get download $packages) &&
		unpack "$1" && mv "$(find "$1/root" -name 'vmlinuz*' -type f)" "$1/vmlinuz" || return
	for module in failover net_failover virtio_net veth xsk_diag tun; do
		file=$(find "$1/root" -name "$module.ko*")
		case $file in
		*.xz) "$(busybox)" unxz <"$file" >"$1/$module.ko" || return ;;
		?*) cp "$file" "$1/" || return ;;
		esac
	done
	rm -r "$1/root"
}

busybox() { find "$vm/tools/root" -name busybox -type f -perm /111; }

# keep NAME COMMAND... has COMMAND make the folder NAME in the cache, once.
keep() {
	local dir=$vm/$1
	[[ ! -d $dir ]] || return 0
	rm -rf "$dir.tmp"
	mkdir -p "$dir.tmp"
	steadily "fetching ${1//-/ }" "$2" "$dir.tmp" "${@:3}" || die "$1 cannot be had"
	mv "$dir.tmp" "$dir"
}

# emulate KERNEL INITRD CONSOLE runs a kernel in QEMU, without KVM. It has two NICs
# on one cable; its first serial line, the console, goes to the file CONSOLE, the
# second one to stdout. Without cx16, for QEMU 7.2's spoils the flags, and Linux 6.12
# crashes.
emulate() {
	local tools=$vm/tools/root nic=virtio-net-pci,romfile=,disable-legacy=on,iommu_platform=on dir firmware=()
	for dir in {"$tools",}/usr/share/{seabios,qemu}; do firmware+=(-L "$dir"); done
	LD_LIBRARY_PATH=$(find "$tools" -name 'lib*.so*' -printf '%h\n' | sort -u | paste -sd:) \
		timeout "$patience" "$tools/usr/bin/qemu-system-x86_64" "${firmware[@]}" -M q35 -accel tcg,thread=multi -cpu qemu64,-cx16 -smp 2 -m 1024 \
		-nodefaults -no-user-config -display none -no-reboot -serial "file:$3" -serial stdio \
		-kernel "$1" -initrd "$2" -append "console=ttyS0 quiet panic=-1 mitigations=off nokaslr" \
		-netdev hubport,id=a,hubid=0 -device "$nic,netdev=a,mac=02:00:00:00:00:0a" \
		-netdev hubport,id=b,hubid=0 -device "$nic,netdev=b,mac=02:00:00:00:00:0b" </dev/null
}

# furnish DIR PROGRAM... puts programs there, with their libraries.
furnish() {
	local dir=$1 file
	shift
	mkdir -p "$dir"/{bin,dev,proc,sys,tmp,etc}
	cp "$(busybox)" "$dir/bin/busybox"
	echo root:x:0:0:root:/:/bin/sh >"$dir/etc/passwd"
	for file; do
		[[ -e $dir/bin/${file##*/} ]] || cp -L "$file" "$dir/bin/"
		ldd "$file" 2>/dev/null | grep -o '/[^ ]*'
	done | sort -u | while read -r file; do
		mkdir -p "$dir${file%/*}" && cp -L "$file" "$dir$file"
	done
}

# initrd DIR prints the archive of DIR.
initrd() { (cd "$1" && find . | "$(busybox)" cpio -o -H newc -R 0:0 2>/dev/null); }
