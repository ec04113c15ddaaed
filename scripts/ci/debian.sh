# Debian systems inside this one, for matrix, in-release and docker-check; sourced.
# shellcheck shell=bash

# cache keeps the bare systems from run to run. They are root's alone, and old: there
# are programs in them with the set-user-ID bit. Whoever uses it calls own_cache first.
cache=${XSK_MATRIX:-/var/tmp/xsk-matrix}
own_cache() { own_folder "$cache" XSK_MATRIX; }

# base RELEASE makes the bare system that each run starts from, once.
base() {
	[[ -d $cache/$1 ]] && return
	have debootstrap || steadily "installing debootstrap" apt-get install -qy --no-install-recommends debootstrap || return
	rm -rf --one-file-system "$cache/$1.tmp"
	steadily "debootstrap $1" debootstrap --variant=minbase --include=git "$1" "$cache/$1.tmp" \
		"$(mirror "$(. /etc/os-release && echo "$VERSION_CODENAME")")" || return
	mv "$cache/$1.tmp" "$cache/$1"
}

# copy_tree DIR copies the work tree as it is, what git ignores left out. Root may
# do that with another user's checkout, which git asks to be told: as in a container.
copy_tree() {
	mkdir -p "$1"
	# shellcheck disable=SC2154 # lib.sh sets it
	(cd "$root" && git -c safe.directory="$root" ls-files -zco --exclude-standard |
		tar -c --null -T - --ignore-failed-read 2>/dev/null) | tar -xC "$1" --no-same-owner
}

# network DIR copies what makes this machine's network work.
network() {
	local certs=${SSL_CERT_FILE:-/etc/ssl/certs/ca-certificates.crt}
	cp -L /etc/resolv.conf /etc/hosts "$1/etc/"
	# A mirror that stands still has releases out of date.
	apt-config dump | grep -E '^Acquire::(Check-|.*[Pp]roxy)' >"$1/etc/apt/apt.conf.d/90host" || true
	# Picked up when ca-certificates is installed in there.
	[[ ! -e $certs ]] || install -D -m 644 "$certs" "$1/usr/local/share/ca-certificates/host.crt"
}

# enter DIR COMMAND... runs it in the system in DIR, in mount and process
# namespaces of its own, with an empty environment but for Go's. lend="FROM:TO..."
# shows folders of this machine there, read-only, or not with FROM:TO:rw. All ends
# with the calling shell: unshare itself blocks TERM, and so does what is started first.
enter() {
	local vars name
	vars=(PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 HOME=/root CI="${CI:-}")
	for name in GOPROXY GOSUMDB GOPRIVATE; do vars+=("$name=$(go env $name)"); done
	# shellcheck disable=SC2016
	env -i "${vars[@]}" setpriv --pdeathsig KILL \
		unshare --mount --pid --fork --kill-child=KILL --propagation private bash -eu -c '
		dir=$1 lend=$2
		mount --bind "$dir" "$dir"
		mount -t proc proc "$dir/proc"
		mount --rbind /sys "$dir/sys"
		mount --rbind /dev "$dir/dev"
		for each in $lend; do
			IFS=: read -r from to how <<<"$each"
			mkdir -p "$dir$to"
			mount --bind -o "${how:-ro}" "$from" "$dir$to"
		done
		shift 2
		# Not chroot: the kernel makes no user namespace in one. The old root lies
		# on the new one, without a folder that others here might take away.
		cd "$dir"
		pivot_root . .
		umount -l .
		cd /
		exec "$@"
	' - "$1" "${lend:-}" "${@:2}" </dev/null
}
