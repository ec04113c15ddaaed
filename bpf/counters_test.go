package bpf_test

import (
	"net"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-xsk/xsk/bpf"
	"github.com/go-xsk/xsk/internal/testns"
)

func TestCountersTellWhereThePacketsAre(t *testing.T) {
	a, _ := testns.Veth{}.Make(t)
	p, err := bpf.Attach(a, bpf.Options{Filter: bpf.Filter{
		UDPPorts: []uint16{53, 22}, Ping: true, Except: &bpf.Filter{VLAN: 42}, KeepManagement: true, ManagementPorts: []uint16{22}}})
	require.NoError(t, err)
	defer p.Close()
	run := func(times int, packet []byte) {
		for range times {
			verdict(t, p, packet)
		}
	}
	matched := packetOf("10.0.0.1", "10.0.0.2", udp, ported(udp, 9, 53))
	run(1, matched)
	require.NoError(t, register(t, p.FileDescriptor(), 0))
	run(2, matched)
	run(3, packetOf("10.0.0.1", "10.0.0.2", 1, []byte{8, 0, 0, 0, 0, 0, 0, 0}))
	run(4, ethernet(typeVLAN, tag(typeIPv4, matched[14:])))
	run(5, packetOf("10.0.0.1", "10.0.0.2", udp, ported(udp, 9, 22)))
	run(6, packetOf("10.0.0.1", "10.0.0.2", udp, ported(udp, 9, 54)))
	run(7, ethernet(0x0806, make([]byte, 28)))
	c, err := p.Counters()
	require.NoError(t, err)
	assert.Equal(t, bpf.Counters{Matched: 5, NoSocket: 1, Excepted: 9, Passed: 13, Rules: []bpf.RuleCounter{
		{"UDPPorts", 2, 1}, {"Ping", 3, 0}, {"Except.VLAN", 4, 0}, {"KeepManagement", 5, 0},
	}}, c)
	assert.Equal(t, "matched 5 (UDPPorts 2, Ping 3), no socket 1 (UDPPorts 1), excepted 9 (Except.VLAN 4, KeepManagement 5), passed 13", c.String())

	// They go on; a rule that has counted stays in the list.
	require.NoError(t, p.Update(bpf.Filter{All: true, Except: &bpf.Filter{TCPPorts: []uint16{1}}}))
	run(1, matched)
	run(1, packetOf("10.0.0.1", "10.0.0.2", tcp, nil))
	c, err = p.Counters()
	require.NoError(t, err)
	assert.Equal(t, "matched 6 (UDPPorts 2, Ping 3, All 1), no socket 1 (UDPPorts 1), "+
		"excepted 10 (Except.VLAN 4, KeepManagement 5, Except (in doubt) 1), passed 13", c.String())
	assert.Contains(t, c.Rules, bpf.RuleCounter{Rule: "Except.TCPPorts"})

	require.NoError(t, p.Close())
	_, err = p.Counters()
	assert.ErrorIs(t, err, net.ErrClosed)
}

// TestCountersCountTheFirst gives pairs of rules, and of exceptions, a packet that
// both match.
func TestCountersCountTheFirst(t *testing.T) {
	a, _ := testns.Veth{}.Make(t)
	all := []netip.Prefix{prefix("10.0.0.0/8")}
	parts := []func(*bpf.Filter){
		func(f *bpf.Filter) { f.TCPPorts = []uint16{22} },
		func(f *bpf.Filter) { f.EtherTypes = []uint16{typeIPv4} },
		func(f *bpf.Filter) { f.Protocols = []uint8{tcp} },
		func(f *bpf.Filter) { f.MACs = []net.HardwareAddr{make(net.HardwareAddr, 6)} },
		func(f *bpf.Filter) { f.Sources = all },
		func(f *bpf.Filter) { f.Destinations = all },
		func(f *bpf.Filter) {
			f.Flows = []bpf.Flow{{Source: netip.MustParseAddrPort("10.0.0.1:0"), Destination: netip.MustParseAddrPort("10.0.0.2:0")}}
		},
	}
	packet := packetOf("10.0.0.1", "10.0.0.2", tcp, ported(tcp, 9, 22))
	counts := func(f bpf.Filter, packet []byte) (hits []uint64) {
		t.Helper()
		p, err := bpf.Attach(a, bpf.Options{Filter: f})
		require.NoError(t, err)
		defer p.Close()
		verdict(t, p, packet)
		for _, r := range count(t, p).Rules {
			hits = append(hits, r.Packets+r.NoSocket)
		}
		return hits
	}
	for i, part := range parts {
		for _, other := range parts[:i] {
			var f bpf.Filter
			part(&f)
			other(&f)
			assert.Equal(t, []uint64{1, 0}, counts(f, packet), f)
			assert.Equal(t, []uint64{0, 1, 0}, counts(bpf.Filter{All: true, Except: &f}, packet), "but not %v", f)
		}
		var f bpf.Filter
		part(&f)
		assert.Equal(t, []uint64{0, 1, 0}, counts(bpf.Filter{All: true, Except: &f, KeepManagement: true}, packet), "but not %v", f)
	}
	cut := packet[:len(packet)-1]
	assert.Equal(t, []uint64{0, 0, 1}, counts(bpf.Filter{All: true, Except: &bpf.Filter{TCPPorts: []uint16{22}, Sources: all}}, cut), "in no doubt")
}

func TestCountersOfNothing(t *testing.T) {
	a, _ := testns.Veth{}.Make(t)
	p := attach(t, a, bpf.Options{Filter: bpf.Filter{None: true}})
	verdict(t, p, make([]byte, 64))
	c, err := p.Counters()
	require.NoError(t, err)
	assert.Equal(t, bpf.Counters{Passed: 1}, c)
	assert.Equal(t, "matched 0, no socket 0, excepted 0, passed 1", c.String())
}
