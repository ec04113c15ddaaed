// Package kernel tells what the running kernel is.
package kernel

import (
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// AtLeast reports whether the kernel is at least the version that opens what, as
// in AtLeast("6.9 generic multi-buffer"). Distributions carry functions back into
// older kernels; so it is for explaining what the kernel has refused, and for what
// the kernel cannot be asked.
func AtLeast(what string) bool { return running() >= version(what) }

var running = sync.OnceValue(func() int {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return 0
	}
	return version(unix.ByteSliceToString(u.Release[:]))
})

// version turns "6.9 ..." and "6.18.44-x" into major<<16 | minor.
func version(s string) int {
	major, rest, _ := strings.Cut(s, ".")
	digits := strings.IndexFunc(rest, func(r rune) bool { return r < '0' || r > '9' })
	if digits >= 0 {
		rest = rest[:digits]
	}
	hi, _ := strconv.Atoi(major)
	lo, _ := strconv.Atoi(rest)
	return hi<<16 | lo
}
