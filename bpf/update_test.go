package bpf_test

import (
	"net"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/go-xsk/xsk/bpf"
	"github.com/go-xsk/xsk/internal/testns"
)

var bothModes = []bpf.Mode{bpf.Native, bpf.Generic}

func TestUpdateChangesTheFilter(t *testing.T) {
	for _, mode := range bothModes {
		t.Run(mode.String(), func(t *testing.T) {
			a, b := testns.Veth{}.Make(t)
			kernel, wire := openTap(t, a), openTap(t, b)
			p := attach(t, a, bpf.Options{Filter: bpf.Filter{UDPPorts: []uint16{53}}, Mode: mode})
			require.NoError(t, register(t, p.FileDescriptor(), 0))
			before := p.FileDescriptor()
			packet := func(port uint16) []byte { return packetOf("10.0.0.1", "10.0.0.2", udp, ported(udp, 9, port)) }
			goesTo := func(port uint16, socket bool) {
				t.Helper()
				wait := 2 * time.Second
				if socket {
					wait = 50 * time.Millisecond
				}
				wire.send(t, packet(port))
				assert.Equal(t, !socket, kernel.sees(t, packet(port), wait), "port %d", port)
			}
			goesTo(53, true)
			goesTo(54, false)
			require.NoError(t, p.Update(bpf.Filter{UDPPorts: []uint16{54}}))
			assert.Contains(t, p.String(), mode.String()+", UDP port 54")
			goesTo(53, false)
			goesTo(54, true)
			assert.Equal(t, before, p.FileDescriptor(), "the XSKMAP stays")

			err := p.Update(bpf.Filter{})
			require.ErrorIs(t, err, syscall.EINVAL)
			assert.ErrorContains(t, err, "bpf: update "+a+": invalid argument: the Filter is empty")
			goesTo(54, true)

			require.NoError(t, p.Update(bpf.Filter{None: true}))
			goesTo(54, false)
			require.NoError(t, p.Close())
			assert.ErrorIs(t, p.Update(bpf.Filter{All: true}), net.ErrClosed)
		})
	}
}

func TestUpdateAfterTheInterfaceIsGone(t *testing.T) {
	a, _ := testns.Veth{}.Make(t)
	p := attach(t, a, everything)
	testns.IP(t, "link", "del", a)
	require.ErrorIs(t, p.Update(bpf.Filter{UDPPorts: []uint16{53}}), syscall.ENODEV)
}

func TestUpdateThatFailsLeavesTheOldFilter(t *testing.T) {
	a, b := testns.Veth{}.Make(t)
	wire := openTap(t, b)
	p := attach(t, a, udpPorts(53))
	require.NoError(t, register(t, p.FileDescriptor(), 0))
	was, _ := programs(t, a)
	var err error
	without(t, func() { err = p.Update(bpf.Filter{All: true}) }, unix.CAP_BPF, unix.CAP_SYS_ADMIN)
	require.ErrorIs(t, err, syscall.EPERM)
	before, said := len(descriptors(t)), p.String()
	bpf.BreakUpdate(p)
	err = p.Update(bpf.Filter{All: true})
	require.ErrorIs(t, err, syscall.EINVAL)
	assert.ErrorContains(t, err, "bpf: update "+a+": load the program: invalid argument (")
	is, _ := programs(t, a)
	assert.Equal(t, was, is)
	assert.Equal(t, said, p.String())
	assert.Len(t, descriptors(t), before)
	wire.send(t, packetOf("10.0.0.1", "10.0.0.2", udp, ported(udp, 9, 53)))
	assert.Eventually(t, func() bool { return count(t, p).Matched == 1 }, 5*time.Second, time.Millisecond)
}

// TestUpdateMeetsClose has nothing to wait for but the race detector.
func TestUpdateMeetsClose(t *testing.T) {
	a, _ := testns.Veth{}.Make(t)
	require.NoError(t, attach(t, a, everything).Close()) // the first opens what stays
	before := len(descriptors(t))
	p, err := bpf.Attach(a, everything)
	require.NoError(t, err)
	var users sync.WaitGroup
	for range 2 {
		users.Add(2)
		go func() {
			defer users.Done()
			for err := error(nil); err == nil; {
				if err = p.Update(bpf.Filter{UDPPorts: []uint16{53}}); err != nil {
					assert.ErrorIs(t, err, net.ErrClosed)
				}
			}
		}()
		go func() {
			defer users.Done()
			for err := error(nil); err == nil; _, _ = p.String(), p.FileDescriptor() {
				if _, err = p.Counters(); err != nil {
					assert.ErrorIs(t, err, net.ErrClosed)
				}
			}
		}()
	}
	time.Sleep(100 * time.Millisecond)
	require.NoError(t, p.Close())
	users.Wait()
	native, generic := programs(t, a)
	assert.Zero(t, native+generic)
	assert.LessOrEqual(t, len(descriptors(t)), before)
}

func TestUpdateLeaksNothing(t *testing.T) {
	a, _ := testns.Veth{}.Make(t)
	p := attach(t, a, everything)
	update := func() {
		require.NoError(t, p.Update(bpf.Filter{UDPPorts: []uint16{53}}))
		require.Error(t, p.Update(bpf.Filter{}))
		require.NoError(t, p.Update(bpf.Filter{All: true, KeepManagement: true}))
	}
	update()
	before := len(descriptors(t))
	for range 20 {
		update()
	}
	assert.Equal(t, before, len(descriptors(t)))
}
