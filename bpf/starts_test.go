package bpf_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/go-xsk/xsk/bpf"
	"github.com/go-xsk/xsk/internal/testns"
)

// TestFilterManyPrefixes has prefixes of every length, next to and within each
// other, so that the tables are deep, and tries the addresses at their edges.
func TestFilterManyPrefixes(t *testing.T) {
	testns.Kernel(t)
	seed := rand.Uint64()
	for _, family := range []struct {
		name    string
		network []string
	}{{"IPv4", []string{"0.0.0.0", "10.1.0.0", "10.1.2.0", "255.255.255.0"}},
		{"IPv6", []string{"::", "2001:db8::", "2001:db8:0:1:8000::", "2001:db8:0:1::ff00", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:0"}}} {
		for _, n := range []int{1, 2, 3, 10, 300} {
			t.Run(fmt.Sprint(family.name, " ", n), func(t *testing.T) {
				d := dice{rand.New(rand.NewPCG(seed, uint64(n)))}
				networks := addresses(family.network...)
				f := bpf.Filter{Except: &bpf.Filter{}}
				for i := range n {
					f.Sources = append(f.Sources, d.within(networks))
					f.Destinations = append(f.Destinations, d.within(networks))
					f.Hosts = append(f.Hosts, d.within(networks).Addr())
					if a := d.within(networks).Addr(); i%10 == 0 { // few and small, for something to match
						f.Except.Sources = append(f.Except.Sources, netip.PrefixFrom(a, a.BitLen()-d.IntN(8)).Masked())
						f.Except.Destinations = append(f.Except.Destinations, f.Except.Sources[d.IntN(len(f.Except.Sources))])
					}
				}
				m, err := bpf.NewMatcher(&f)
				require.NoError(t, err)
				defer m.Close()
				match, err := f.Func()
				require.NoError(t, err)
				edges := edges(append(append(append([]netip.Prefix{}, f.Sources...), f.Destinations...), append(f.Except.Sources, f.Except.Destinations...)...))
				matched := 0
				for i := range 5 * len(edges) {
					source, destination := edges[i%len(edges)], pick(d, edges)
					if d.IntN(2) == 0 {
						source, destination = destination, source
					}
					packet := packetOf(source.String(), destination.String(), udp, ported(udp, 1, 2))
					got, err := m.Match(packet)
					require.NoError(t, err)
					require.Equal(t, match(packet), got, "seed %d: %v to %v\n%#v", seed, source, destination, f)
					if got {
						matched++
					}
				}
				t.Logf("%d of %d packets match", matched, 5*len(edges))
				require.True(t, n < 10 || matched > len(edges)/4, "seed %d: hardly any match", seed)
			})
		}
	}
}

// within is a prefix in one of the networks, long ones more often than short ones.
func (d dice) within(networks []netip.Addr) netip.Prefix {
	b := pick(d, networks).AsSlice()
	b[len(b)-1] |= byte(d.Uint32())
	if d.IntN(2) == 0 {
		b[d.IntN(len(b))] ^= 1 << d.IntN(8)
	}
	a, _ := netip.AddrFromSlice(b)
	p, _ := a.Prefix(a.BitLen() - min(d.IntN(a.BitLen()), d.IntN(a.BitLen()), d.IntN(a.BitLen())))
	return p
}

// edges are the first and last addresses of the prefixes, and those around them.
func edges(prefixes []netip.Prefix) (all []netip.Addr) {
	for _, p := range prefixes {
		last := p.Addr().AsSlice()
		for bit := p.Bits(); bit < 8*len(last); bit++ {
			last[bit/8] |= 0x80 >> (bit % 8)
		}
		end, _ := netip.AddrFromSlice(last)
		for _, a := range []netip.Addr{p.Addr(), p.Addr().Prev(), end, end.Next()} {
			if a.IsValid() {
				all = append(all, a)
			}
		}
	}
	return all
}
