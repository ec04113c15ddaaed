# What the scripts share; sourced, never run.
# shellcheck shell=bash

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# bin is where the scripts put what they build.
# shellcheck disable=SC2034
bin=$root/.bin

# usage prints the comment that a script opens with.
usage() { sed -n '2,/^$/s/^# \{0,1\}//p' "$0"; }

die() {
	echo "${0##*/}: $*" >&2
	exit 1
}

have() { command -v "$1" >/dev/null 2>&1; }

# as_root runs a command as root.
as_root() {
	if ((EUID == 0)); then "$@"; else sudo "$@"; fi
}

# may_root dies unless as_root can work here.
may_root() {
	((EUID == 0)) && return
	have sudo || die "$1 needs root, and there is no sudo: run it as root"
	sudo -n true 2>/dev/null || [[ -t 0 ]] || die "$1 needs root, and sudo cannot ask for a password here: run it as root"
	sudo -v || die "$1 needs root"
}

# invoker is the user who called sudo and owns this checkout; empty without one.
invoker() {
	if ((EUID == 0)) && [[ -n ${SUDO_USER:-} && $SUDO_USER != root && $(stat -c %U "$root") == "$SUDO_USER" ]]; then
		echo "$SUDO_USER"
	fi
}

# find_go puts go on the PATH: root finds it where its installer puts it, in
# the home and on the PATH of the user who called sudo, and where Debian's
# versioned packages put it.
find_go() {
	have go && return
	local home='' found='' dir
	if ((EUID == 0)) && [[ -n ${SUDO_USER:-} && $SUDO_USER != root ]]; then
		home=$(getent passwd "$SUDO_USER" | cut -d: -f6)
		found=$(runuser -l "$SUDO_USER" -c 'command -v go' </dev/null 2>/dev/null | tail -n 1) || true
	fi
	for dir in ${found:+"${found%/*}"} /usr/local/go/bin "${home:-$HOME}"/go/bin "${home:-$HOME}"/sdk/go*/bin \
		/snap/bin /usr/lib/go/bin /usr/lib/go-*/bin; do
		if [[ -x $dir/go ]]; then
			PATH=$dir:$PATH
			return
		fi
	done
	return 1
}

# go_here prepares the environment of every go command below: no version
# control stamps, and root's caches in root's home, also under "sudo -E".
go_here() {
	find_go || die "no go command; scripts/setup says how to install Go"
	GOFLAGS="$(go env GOFLAGS) -buildvcs=false"
	export PATH GOFLAGS
	if ((EUID == 0)) && [[ -n ${SUDO_USER:-} ]]; then
		HOME=$(getent passwd 0 | cut -d: -f6)
		export HOME
	fi
	cd "$root" || exit
	folder "$bin"
}

# folder DIR makes DIR in the checkout, where build can write. What is built there is
# run as root.
folder() {
	[[ ! -L $1 ]] || die "$1 is a link: remove it"
	# shellcheck disable=SC2174
	[[ -d $1 ]] || mkdir -p -m 755 "$1"
	((EUID != 0)) || chown --no-dereference --reference="$root" "$1"
	[[ -z $(find "$1" -maxdepth 0 -perm -o=w) ]] || die "$1 can be written to by others: chmod o-w $1"
}

# own_folder DIR VARIABLE [MODE] makes the cache DIR, with MODE (700). It dies if
# another user made it, or could put something there: the scripts run what they find
# in their caches, as root too. VARIABLE names another folder.
own_folder() {
	local why mode=${3:-700}
	# shellcheck disable=SC2174
	mkdir -p -m "$mode" "$1" 2>/dev/null || [[ -e $1 || -L $1 ]] || die "cannot make $1"
	if why=$(strangers "$1"); then
		die "$why, so another user may have put programs into $1 for $(id -un) to run: remove it, or set $2 to a folder of your own"
	fi
	[[ ! -O $1 ]] || chmod "$mode" "$1"
}

# strangers DIR prints what is wrong with the owner, the mode or the kind of DIR or of
# a folder above it; it fails if all is in order.
strangers() {
	local path at kind owner mode
	for path in "$(realpath -s -- "$1")" "$(realpath -m -- "$1")"; do # links kept, and followed
		at=$path
		while :; do
			IFS=: read -r kind owner mode < <(stat -c %F:%u:%a -- "$at")
			if [[ $owner != 0 && $owner != "$EUID" ]]; then
				echo "$at belongs to $(stat -c %U -- "$at")" && return
			elif [[ $at == "$path" && $kind != directory ]]; then
				echo "$at is a $kind" && return
			elif [[ $kind == directory ]] && ((0$mode & 022)) && { [[ $at == "$path" ]] || ((!(0$mode & 01000))); }; then
				echo "$at can be written to by others" && return
			fi
			[[ $at != / ]] || break
			at=${at%/*}
			at=${at:-/}
		done
	done
	return 1
}

# build runs go with its arguments as the user whose checkout this is, so that
# a build leaves no file of root's in it or in that user's caches.
build() {
	local user
	user=$(invoker)
	if [[ -n $user ]]; then
		runuser -u "$user" -- env HOME="$(getent passwd "$user" | cut -d: -f6)" go "$@"
	else
		go "$@"
	fi
}

# modules prints the folder of each Go module here, "." first. Those below it
# have dependencies of their own.
modules() { (cd "$root" && find . -name go.mod -not -path './.*' -printf '%h\n' | sort); }

# too_new MODULE prints why this Go cannot build it: its go line is newer, and
# the toolchain cannot be fetched or may not be (GOTOOLCHAIN).
too_new() {
	local said
	! said=$(cd "$root/$1" && build list -m 2>&1 </dev/null) && grep -m 1 -E 'requires go >=|toolchain' <<<"$said"
}

# each_module COMMAND... runs COMMAND in every one of them, but for those that
# this Go is too old for: it says so.
each_module() {
	local module why rc=0
	while read -r module; do
		if why=$(too_new "$module"); then
			echo "module $module is left out: $why"
			continue
		fi
		(cd "$root/$module" && "$@" </dev/null) || rc=1
	done < <(modules)
	return "$rc"
}

# pause waits without a child process, which would outlive the script.
pause() {
	local fd
	exec {fd}<> <(:)
	read -rt "$1" -u "$fd" || true
	exec {fd}>&-
}

# steadily WHAT COMMAND... runs COMMAND quietly, with a line every 8 seconds;
# what it printed is shown if it fails.
steadily() {
	local what=$1 log rc=0 beat start=$SECONDS
	shift
	log=$(mktemp)
	(while pause 8 && kill -0 $$ 2>/dev/null; do echo "$what: $((SECONDS - start)) s"; done) &
	beat=$!
	"$@" >"$log" 2>&1 || rc=$?
	kill "$beat" 2>/dev/null || true
	wait "$beat" 2>/dev/null || true
	((rc == 0)) || sed 's/^/    /' "$log"
	rm -f "$log"
	return "$rc"
}

# mirror CODENAME [ORIGIN] prints where this machine's apt gets that Debian
# release from, by its own configuration.
mirror() {
	# shellcheck disable=SC2016
	apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' "Codename: $1" "Origin: ${2:-Debian}" | head -n 1
}

# is_debian CODENAME reports whether this is that Debian.
is_debian() { [[ $(. /etc/os-release && echo "${ID:-}-${VERSION_CODENAME:-}") == "debian-$1" ]]; }

# static_links tries the system's static libraries, and shows what is wrong with them.
static_links() {
	# shellcheck disable=SC2046
	printf '#include <xdp/xsk.h>\nint main(void) { return xsk_umem__delete(0); }\n' |
		gcc -static -x c -o /dev/null - $(pkg-config --static --libs libxdp)
}

# static_or_skip ends a check where nothing can be linked statically: with 77, but
# on Debian 12, where the README promises that it can, as failed.
static_or_skip() {
	! static_links || return 0
	! is_debian bookworm || die "no static program links here, although this is Debian 12: try scripts/setup"
	echo "skipped: no static program links against this system's libxdp.a and what it wants"
	exit 77
}

# guests reports whether scripts/ci/vm-test can work here.
guests() { [[ $(uname -m) == x86_64 && -n $(mirror "$(. /etc/os-release && echo "${VERSION_CODENAME:-}")") ]]; }

# lacking prints which of the capabilities NAME=BIT... this process has not.
lacking() {
	local effective cap
	effective=$(sed -n 's/^CapEff:[[:space:]]*//p' /proc/self/status)
	for cap in "$@"; do
		((0x$effective >> ${cap#*=} & 1)) || echo "CAP_${cap%=*}"
	done | paste -sd' '
}

# check NAME COMMAND... runs COMMAND as one test more, steadily. One that ends
# with 77 has said what it wants that this machine has not, and is skipped.
passed=0 failed=0 skipped=0
check() {
	local name=$1 rc=0 start=$SECONDS
	shift
	steadily "      $name" "$@" || rc=$?
	case $rc in
	0) passed=$((passed + 1)) && echo "ok    $name  $((SECONDS - start))s" ;;
	77) skipped=$((skipped + 1)) && echo "skip  $name" ;;
	*) failed=$((failed + 1)) && echo "FAIL  $name" ;;
	esac
}

# some COMMAND... runs tests by name, and fails if a package has none of those.
some() {
	local said rc=0
	said=$("$@" 2>&1) || rc=$?
	echo "$said"
	((rc == 0)) || return "$rc"
	[[ $said != *"no tests to run"* ]]
}

# verdict ends a script of checks with the one line that counts them, and
# leaves the counts in the file that XSK_TALLY names.
verdict() {
	[[ -z ${XSK_TALLY:-} ]] || echo "$passed $failed $skipped" >"$XSK_TALLY"
	echo "$passed passed, $failed failed, $skipped skipped"
	((failed == 0))
}

# set_up runs scripts/setup, which may ask only where somebody can answer.
set_up() {
	local yes=-y
	[[ ! -t 0 ]] || yes=
	"$root/scripts/setup" ${yes:+"$yes"}
}
