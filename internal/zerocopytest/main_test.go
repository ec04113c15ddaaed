package zerocopytest

import (
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-xsk/xsk"
	"github.com/go-xsk/xsk/bpf"
)

// The two NICs: what one sends, the other one receives.
var left, right string

func TestMain(m *testing.M) {
	names := os.Getenv("XSK_ZEROCOPY")
	if names == "" {
		fmt.Println("no tests: XSK_ZEROCOPY=NIC,NIC names two NICs that are cabled together; scripts/ci/vm-test has such")
		os.Exit(0)
	}
	left, right, _ = strings.Cut(names, ",")
	os.Exit(m.Run())
}

// eachWay runs f from either NIC to the other one.
func eachWay(t *testing.T, f func(t *testing.T, from, to string)) {
	t.Run("to "+right, func(t *testing.T) { f(t, left, right) })
	t.Run("to "+left, func(t *testing.T) { f(t, right, left) })
}

// attach has everything redirected on the NIC, until t ends.
func attach(t *testing.T, nic string) *bpf.Program {
	t.Helper()
	return attachFilter(t, nic, bpf.Filter{All: true})
}

func attachFilter(t *testing.T, nic string, f bpf.Filter) *bpf.Program {
	t.Helper()
	p, err := bpf.Attach(nic, bpf.Options{Filter: f, Mode: bpf.Native})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, p.Close()) })
	up, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	require.NoError(t, p.WaitLink(up))
	return p
}

// granted asserts that the kernel has granted zero copy.
func granted(t *testing.T, s *xsk.Socket) {
	t.Helper()
	zero, err := s.ZeroCopy()
	require.NoError(t, err)
	require.True(t, zero, "%v: XDP_OPTIONS", s)
	mode, err := s.Mode()
	require.NoError(t, err)
	require.Equal(t, "zero copy", mode)
	require.Contains(t, s.String(), ": zero copy, ")
}

// patience is more than an emulated machine needs for anything.
const patience = 30 * time.Second

// within calls done until it is true, and fails t when that takes too long.
func within(t *testing.T, what string, done func() bool) {
	t.Helper()
	for start := time.Now(); !done(); time.Sleep(100 * time.Microsecond) {
		if time.Since(start) > patience {
			require.FailNow(t, "not done in time", "%s", what)
		}
	}
}

// What Ethernet carries, without the checksum.
const shortest, longest = 60, 1514

// fill makes b a broadcast packet that has a number in every byte.
func fill(b []byte, number int) {
	for i := range b {
		b[i] = byte(number + i)
	}
	copy(b, []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 1, 0x88, 0xb5})
	binary.BigEndian.PutUint32(b[14:], uint32(number))
}

// check asserts that b is packet number of that length, in every byte.
func check(t *testing.T, b []byte, number, length int) {
	t.Helper()
	want := make([]byte, length)
	fill(want, number)
	require.Equal(t, want, b)
}
