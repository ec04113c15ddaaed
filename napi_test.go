package xsk_test

import (
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/go-xsk/xsk"
	"github.com/go-xsk/xsk/internal/testns"
)

// napi are the interface's two settings as /sys shows them.
func napi(t *testing.T, ifname string) (all [2]string) {
	t.Helper()
	for i, name := range []string{"napi_defer_hard_irqs", "gro_flush_timeout"} {
		text, err := os.ReadFile("/sys/class/net/" + ifname + "/" + name)
		require.NoError(t, err)
		all[i] = strings.TrimSpace(string(text))
	}
	return all
}

func TestDeferNAPISetsAndRestores(t *testing.T) {
	a, b := vethPair(t)
	require.NoError(t, os.WriteFile("/sys/class/net/"+a+"/gro_flush_timeout", []byte("1234"), 0))
	outer, err := xsk.DeferNAPI(a, 2, 200*time.Microsecond)
	require.NoError(t, err)
	assert.Equal(t, [2]string{"2", "200000"}, napi(t, a))
	inner, err := xsk.DeferNAPI(a, 100, time.Millisecond)
	require.NoError(t, err)
	assert.Equal(t, [2]string{"100", "1000000"}, napi(t, a))
	assert.Equal(t, [2]string{"0", "0"}, napi(t, b), "nobody else's")
	require.NoError(t, inner.Close())
	assert.Equal(t, [2]string{"2", "200000"}, napi(t, a))

	// The name may change, the interface does not.
	testns.IP(t, "link", "set", a, "down") // before Linux 6.2 it has to be
	testns.IP(t, "link", "set", b, "down")
	testns.IP(t, "link", "set", a, "name", "other0")
	defer testns.IP(t, "link", "set", "other0", "name", a)
	testns.IP(t, "link", "set", b, "name", a)
	defer testns.IP(t, "link", "set", a, "name", b)
	require.NoError(t, outer.Close())
	assert.Equal(t, [2]string{"0", "1234"}, napi(t, "other0"))
	assert.Equal(t, [2]string{"0", "0"}, napi(t, a))

	// Closed is closed.
	next, err := xsk.DeferNAPI("other0", 7, time.Second)
	require.NoError(t, err)
	require.NoError(t, outer.Close())
	require.NoError(t, inner.Close())
	assert.Equal(t, [2]string{"7", "1000000000"}, napi(t, "other0"))
	require.NoError(t, next.Close())
}

func TestDeferNAPIOfAnInterfaceThatGoes(t *testing.T) {
	a, _ := vethPair(t)
	d, err := xsk.DeferNAPI(a, 2, time.Millisecond)
	require.NoError(t, err)
	testns.IP(t, "link", "del", a)
	assert.NoError(t, d.Close())
	assert.NoError(t, d.Close())
}

func TestDeferNAPISaysWhichRuleIsBroken(t *testing.T) {
	a, _ := vethPair(t)
	for _, c := range []struct {
		ifname string
		irqs   int
		flush  time.Duration
		want   error
		rule   string
	}{
		{a, -1, 1, syscall.EINVAL, "xsk: defer NAPI of " + a + ": irqs -1 is not between 0 and 2147483647"},
		{a, 1 << 31, 1, syscall.EINVAL, "irqs 2147483648 is not between"},
		{a, 1, -1, syscall.EINVAL, "flush time -1ns is negative"},
		{a, 1, 0, syscall.EINVAL, "need a flush time"},
		{"nosuch0", 1, 1, syscall.ENODEV, "xsk: defer NAPI of nosuch0: no interface nosuch0"},
		{"../../x", 1, 1, syscall.EINVAL, "is no interface name"},
	} {
		_, err := xsk.DeferNAPI(c.ifname, c.irqs, c.flush)
		require.ErrorIs(t, err, c.want)
		assert.ErrorContains(t, err, c.rule)
	}
	assert.Equal(t, [2]string{"0", "0"}, napi(t, a))
}

func TestDeferNAPINeedsItsPrivilege(t *testing.T) {
	a, _ := vethPair(t)
	without(t, func() {
		_, err := xsk.DeferNAPI(a, 2, time.Millisecond)
		assert.ErrorIs(t, err, os.ErrPermission)
		assert.ErrorContains(t, err, "needs CAP_NET_ADMIN")
	}, unix.CAP_NET_ADMIN)
	assert.Equal(t, [2]string{"0", "0"}, napi(t, a))
	d, err := xsk.DeferNAPI(a, 2, time.Millisecond)
	require.NoError(t, err)
	without(t, func() { assert.ErrorIs(t, d.Close(), os.ErrPermission) }, unix.CAP_NET_ADMIN)
	require.NoError(t, d.Close(), "it may be tried again")
	assert.Equal(t, [2]string{"0", "0"}, napi(t, a))
}

// The interfaces of another namespace are not those that this /sys shows.
func TestDeferNAPIMindsTheNamespace(t *testing.T) {
	testns.Kernel(t)
	testns.IP(t, "link", "add", "there0", "index", "773", "type", "veth", "peer", "name", "here1")
	defer testns.IP(t, "link", "del", "there0")
	elsewhere(t, func() {
		_, err := xsk.DeferNAPI("there0", 2, time.Millisecond)
		assert.ErrorIs(t, err, syscall.ENOENT)
		assert.ErrorContains(t, err, "/sys shows another network namespace")
	})
	assert.Equal(t, [2]string{"0", "0"}, napi(t, "there0"))
}
