package bpf_test

import (
	"context"
	"errors"
	"net"
	"os/exec"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-xsk/xsk/bpf"
	"github.com/go-xsk/xsk/internal/testns"
)

func timeout(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

func TestWaitLinkReturnsAtOnceOnALinkThatIsUp(t *testing.T) {
	a, _ := testns.Veth{}.Make(t)
	p := attach(t, a, everything)
	require.NoError(t, p.WaitLink(timeout(t, 5*time.Second)))
	over, cancel := context.WithCancel(t.Context())
	cancel()
	start := time.Now()
	assert.NoError(t, p.WaitLink(over), "nothing to wait for")
	assert.Less(t, time.Since(start), time.Second)
}

func TestWaitLinkWaitsForTheCarrier(t *testing.T) {
	a, b := testns.Veth{}.Make(t)
	p := attach(t, a, everything)
	testns.IP(t, "link", "set", b, "down")
	err := p.WaitLink(timeout(t, 50*time.Millisecond))
	require.ErrorIs(t, err, context.DeadlineExceeded)
	assert.Equal(t, "bpf: wait for the link of "+a+": the interface has no carrier: context deadline exceeded", err.Error())

	timer := time.AfterFunc(50*time.Millisecond, func() { testns.IP(t, "link", "set", b, "up") })
	defer timer.Stop()
	assert.NoError(t, p.WaitLink(timeout(t, 10*time.Second)))
}

func TestWaitLinkServesAnotherProgramsInterface(t *testing.T) {
	a, b := testns.Veth{}.Make(t)
	require.NoError(t, bpf.WaitLink(timeout(t, 5*time.Second), a))
	testns.IP(t, "link", "set", b, "down")
	err := bpf.WaitLink(timeout(t, 50*time.Millisecond), a)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	assert.ErrorContains(t, err, "bpf: wait for the link of "+a+": the interface has no carrier")
	require.ErrorIs(t, bpf.WaitLink(timeout(t, time.Second), "none0"), syscall.ENODEV)
}

func TestWaitLinkSaysThatTheInterfaceIsDown(t *testing.T) {
	a, _ := testns.Veth{}.Make(t)
	p := attach(t, a, everything)
	testns.IP(t, "link", "set", a, "down")
	reason := errors.New("the operator lost patience")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(reason)
	err := p.WaitLink(ctx)
	require.ErrorIs(t, err, reason)
	assert.ErrorContains(t, err, "the interface is down")
}

func TestWaitLinkFollowsARename(t *testing.T) {
	a, _ := testns.Veth{}.Make(t)
	p := attach(t, a, everything)
	testns.IP(t, "link", "set", a, "down")
	testns.IP(t, "link", "set", a, "name", "renamed0")
	t.Cleanup(func() {
		testns.IP(t, "link", "set", "renamed0", "down") // before Linux 6.2 it has to be
		testns.IP(t, "link", "set", "renamed0", "name", a)
	})
	testns.IP(t, "link", "set", "renamed0", "up")
	assert.NoError(t, p.WaitLink(timeout(t, 5*time.Second)))
}

func TestWaitLinkSaysThatTheInterfaceIsGone(t *testing.T) {
	deleted, _ := testns.Veth{}.Make(t)
	p := attach(t, deleted, everything)
	testns.IP(t, "link", "del", deleted)
	require.ErrorIs(t, p.WaitLink(timeout(t, time.Second)), syscall.ENODEV)

	moved, _ := testns.Veth{}.Make(t)
	p = attach(t, moved, everything)
	other := exec.Command("sleep", "60")
	other.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	require.NoError(t, other.Start())
	defer func() { _ = other.Process.Kill(); _ = other.Wait() }()
	testns.IP(t, "link", "set", moved, "netns", strconv.Itoa(other.Process.Pid))
	require.ErrorIs(t, p.WaitLink(timeout(t, time.Second)), syscall.ENODEV)
}

func TestCloseEndsWaitLink(t *testing.T) {
	a, b := testns.Veth{}.Make(t)
	p, err := bpf.Attach(a, everything)
	require.NoError(t, err)
	testns.IP(t, "link", "set", b, "down")
	waited := make(chan error)
	go func() { waited <- p.WaitLink(timeout(t, 10*time.Second)) }()
	time.Sleep(20 * time.Millisecond)
	require.NoError(t, p.Close())
	assert.ErrorIs(t, <-waited, net.ErrClosed)
}
