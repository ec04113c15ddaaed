package bpf_test

import (
	"math/rand/v2"
	"net/netip"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-xsk/xsk/bpf"
)

func TestFuncOfWhatCannotBe(t *testing.T) {
	_, err := bpf.Filter{}.Func()
	assert.ErrorIs(t, err, syscall.EINVAL)
	assert.ErrorContains(t, err, "the Filter is empty")
	match, err := bpf.Filter{None: true}.Func()
	require.NoError(t, err)
	assert.False(t, match(make([]byte, 60)))
	all := bpf.Filter{All: true, KeepManagement: true}
	match, err = all.Func()
	require.NoError(t, err)
	assert.True(t, match(make([]byte, 14)))
	assert.False(t, match(make([]byte, 13)), "no Ethernet header")
}

func TestFuncDoesNotAllocate(t *testing.T) {
	d := dice{rand.New(rand.NewPCG(1, 2))}
	f := bpf.Filter{UDPPorts: bpf.Ports(1, 100), Sources: []netip.Prefix{d.prefix(), d.prefix()}, Hosts: someAddresses, KeepManagement: true, Except: &bpf.Filter{Ping: true}}
	match, err := f.Func()
	require.NoError(t, err)
	packets := make([][]byte, 100)
	for i := range packets {
		packets[i] = d.packet()
	}
	assert.Zero(t, testing.AllocsPerRun(10, func() {
		for _, p := range packets {
			match(p)
		}
	}))
}

func BenchmarkFunc(b *testing.B) {
	for name, f := range map[string]bpf.Filter{
		"port":  {UDPPorts: []uint16{53}},
		"hosts": {Hosts: someAddresses[:1]},
		"ten":   {UDPPorts: bpf.Ports(50, 60), TCPPorts: bpf.Ports(80, 90), Ping: true, Protocols: []uint8{47}, VLAN: 7, KeepManagement: true},
	} {
		match, err := f.Func()
		require.NoError(b, err)
		p := packetOf("10.0.0.1", "10.0.0.2", udp, ported(udp, 9, 4000))
		b.Run(name, func(b *testing.B) {
			for range b.N {
				match(p)
			}
		})
	}
}
