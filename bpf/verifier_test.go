package bpf_test

import (
	"fmt"
	"math/bits"
	"math/rand/v2"
	"net/netip"
	"os"
	"regexp"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/go-xsk/xsk/bpf"
	"github.com/go-xsk/xsk/internal/testns"
)

// parts are one for each rule, with both address families where they differ.
var parts = []func(*bpf.Filter){
	func(f *bpf.Filter) { f.UDPPorts = []uint16{53} },
	func(f *bpf.Filter) { f.TCPPorts = []uint16{80} },
	func(f *bpf.Filter) { f.UDPSourcePorts = []uint16{53} },
	func(f *bpf.Filter) { f.TCPSourcePorts = []uint16{80} },
	func(f *bpf.Filter) { f.Ping = true },
	func(f *bpf.Filter) { f.Protocols = []uint8{47} },
	func(f *bpf.Filter) { f.Sources = []netip.Prefix{prefix("10.0.0.0/8"), prefix("2001:db8::/32")} },
	func(f *bpf.Filter) { f.Destinations = []netip.Prefix{prefix("10.0.0.0/8"), prefix("2001:db8::/32")} },
	func(f *bpf.Filter) { f.Flows = flows },
	func(f *bpf.Filter) { f.Hosts = addresses("10.0.0.1", "2001:db8::1") },
	func(f *bpf.Filter) { f.EtherTypes = []uint16{0x88f7} },
	func(f *bpf.Filter) { f.MACs = someMACs[:2] },
	func(f *bpf.Filter) { f.VLAN = 42 },
}

// flows are of every shape.
var flows = func() (all []bpf.Flow) {
	for _, pair := range [][2]string{{"10.0.0.1", "10.0.0.2"}, {"2001:db8::1", "2001:db8::2"}} {
		source, destination := netip.MustParseAddr(pair[0]), netip.MustParseAddr(pair[1])
		for protocol := range uint8(2) {
			for _, from := range []uint16{0, 53} {
				for _, to := range []uint16{0, 54} {
					if protocol > 0 || from+to == 0 {
						all = append(all, bpf.Flow{Protocol: protocol * udp, Source: netip.AddrPortFrom(source, from), Destination: netip.AddrPortFrom(destination, to)})
					}
				}
			}
		}
	}
	return all
}()

func combine(set uint) *bpf.Filter {
	var f bpf.Filter
	for ; set != 0; set &= set - 1 {
		parts[bits.TrailingZeros(set)](&f)
	}
	return &f
}

// TestFilterVerifies loads combinations of rules, of exceptions, and of both: all
// combinations with -all, otherwise each part, each pair, all parts, and some.
func TestFilterVerifies(t *testing.T) {
	testns.Kernel(t)
	every := uint(1)<<len(parts) - 1
	loads, most := 0, 0
	try := func(f *bpf.Filter) {
		m, err := bpf.NewMatcher(f)
		require.NoError(t, err, f)
		defer m.Close()
		loads++
		most = max(most, verified(t, m.FD()))
	}
	combinations := func(set uint) {
		if set == 0 {
			return
		}
		try(combine(set))
		try(&bpf.Filter{All: true, Except: combine(set)})
		except := combine(set)
		all := combine(every &^ set)
		if set == every {
			all = combine(every)
		}
		all.Except, all.KeepManagement = except, true
		try(all)
	}
	try(&bpf.Filter{All: true})
	try(&bpf.Filter{None: true})
	try(&bpf.Filter{All: true, KeepManagement: true})
	combinations(every)
	for _, p := range []netip.Prefix{prefix("10.0.0.0/8"), prefix("2001:db8::/32")} { // one family alone
		f := combine(every)
		f.Sources, f.Destinations, f.Flows, f.Hosts = []netip.Prefix{p}, []netip.Prefix{p}, nil, []netip.Addr{p.Addr()}
		try(f)
		try(&bpf.Filter{Hosts: f.Hosts})
		try(&bpf.Filter{All: true, Except: &bpf.Filter{Hosts: f.Hosts}})
		try(&bpf.Filter{Sources: []netip.Prefix{p}})
		try(&bpf.Filter{All: true, Except: &bpf.Filter{Destinations: []netip.Prefix{p}}, KeepManagement: true})
	}
	if os.Getenv("XSK_TEST_ALL") != "" {
		for set := range every {
			combinations(set)
		}
	} else {
		for i := range parts {
			combinations(1 << i)
			for j := range i {
				try(combine(1<<i | 1<<j))
			}
		}
		for range 20 {
			combinations(rand.UintN(every))
		}
	}
	t.Logf("%d programs; the verifier looked at %d instructions at most", loads, most)
	require.Less(t, most, 500_000, "the limit is a million, and other kernels count otherwise")
}

var verifiedLine = regexp.MustCompile(`(?m)^verified_insns:\s*(\d+)$`)

// verified is how many instructions the verifier looked at.
func verified(t *testing.T, prog int) int {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/self/fdinfo/%d", prog))
	require.NoError(t, err)
	found := verifiedLine.FindSubmatch(text)
	if found == nil { // before kernel 5.16
		return 0
	}
	n, err := strconv.Atoi(string(found[1]))
	require.NoError(t, err)
	return n
}
