package cmdline

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"github.com/go-xsk/xsk/bpf"
)

// ruleFlags adds the flags of a filter's rules, all but -udp, to a flag set. A flag
// that is given again adds to the first, as after a comma.
func ruleFlags(s *flag.FlagSet, f *bpf.Filter) {
	ports := func(name string, to *[]uint16, usage string) {
		s.Func(name, usage, func(text string) error { return addPorts(to, text) })
	}
	ports("tcp", &f.TCPPorts, "TCP destination `ports`")
	ports("udp-src", &f.UDPSourcePorts, "UDP source `ports`")
	ports("tcp-src", &f.TCPSourcePorts, "TCP source `ports`")
	s.BoolVar(&f.Ping, "ping", false, "ICMP and ICMPv6 echo")
	s.Func("protocol", "IP `protocols` by number, as in 47,132", func(text string) error {
		return each(text, func(word string) error {
			n, err := strconv.ParseUint(word, 0, 8)
			if err != nil {
				return fmt.Errorf("%q is no IP protocol; they are numbers from 0 to 255", word)
			}
			f.Protocols = append(f.Protocols, uint8(n))
			return nil
		})
	})
	prefixes := func(name string, to *[]netip.Prefix, usage string) {
		s.Func(name, usage, func(text string) error {
			return each(text, func(word string) error {
				p, err := parsePrefix(word)
				*to = append(*to, p)
				return err
			})
		})
	}
	prefixes("src", &f.Sources, "source `addresses`, as in 192.0.2.0/24,2001:db8::1")
	prefixes("dst", &f.Destinations, "destination `addresses`")
	s.Func("ethertype", "`EtherTypes`, as in 0x88f7", func(text string) error {
		return each(text, func(word string) error {
			n, err := strconv.ParseUint(word, 0, 16)
			if err != nil {
				return fmt.Errorf("%q is no EtherType; they are numbers, as in 0x88f7", word)
			}
			f.EtherTypes = append(f.EtherTypes, uint16(n))
			return nil
		})
	})
	s.Func("mac", "destination MAC `addresses`", func(text string) error {
		return each(text, func(word string) error {
			mac, err := net.ParseMAC(word)
			if err != nil {
				return fmt.Errorf("%q is no MAC address", word)
			}
			f.MACs = append(f.MACs, mac)
			return nil
		})
	})
	s.Func("vlan", "VLAN `id`", func(text string) error {
		n, err := strconv.ParseUint(text, 10, 12)
		if err != nil || n == 0 || n == 4095 {
			return fmt.Errorf("%q is no VLAN id; they are 1 to 4094", text)
		}
		if f.VLAN != 0 {
			return fmt.Errorf("a filter takes one VLAN id, and has %d", f.VLAN)
		}
		f.VLAN = uint16(n)
		return nil
	})
}

// filterFlags are those of the whole filter, but for -udp.
func (s *Set) filterFlags(f *bpf.Filter) {
	ruleFlags(s.FlagSet, f)
	s.BoolVar(&f.All, "all", false, "every packet; remote logins too, if there is no -keep")
	s.BoolVar(&f.KeepManagement, "keep", false, "leave ARP, neighbour discovery, ssh, DNS and DHCP answers to the kernel")
	s.Func("keep-ports", "-keep, and these UDP and TCP `ports` too", func(text string) error {
		f.KeepManagement = true
		return addPorts(&f.ManagementPorts, text)
	})
	s.Func("except", "leave to the kernel what these `flags` match, as in '-tcp 22,443 -ping'", func(text string) error {
		if f.Except == nil {
			f.Except = new(bpf.Filter)
		}
		set := flag.NewFlagSet("except", flag.ContinueOnError)
		set.SetOutput(io.Discard)
		ruleFlags(set, f.Except)
		set.Func("udp", "", func(text string) error { return addPorts(&f.Except.UDPPorts, text) })
		if err := set.Parse(strings.Fields(text)); err != nil {
			return err
		}
		if set.NFlag() == 0 || set.NArg() > 0 {
			return errors.New("it takes the flags of rules, as in '-tcp 22,443 -ping'")
		}
		return nil
	})
}

// DefaultAll makes every packet what the filter matches when no flag says
// anything else.
func (s *Set) DefaultAll() {
	s.options.Ports = nil
	s.Lookup("udp").Usage = "UDP destination `ports`"
	s.defaultAll = true
}

// settle finds out whether the defaults apply.
func (s *Set) settle() {
	o := &s.options
	given, udp := false, false
	s.Visit(func(f *flag.Flag) {
		switch f.Name {
		case "udp":
			udp = true
		case "tcp", "udp-src", "tcp-src", "ping", "protocol", "src", "dst", "ethertype", "mac", "vlan", "all":
			given = true
		}
	})
	switch {
	case given && !udp:
		o.Ports = nil
	case !given && !udp && s.defaultAll:
		o.Rules.All = true
	}
}

// Filter is what -udp and the other flags of the filter say together.
func (o *Options) Filter() bpf.Filter {
	f := o.Rules
	f.UDPPorts = o.Ports
	return f
}

// Filtered is a line of a program's counters: where the packets went.
func Filtered(p *bpf.Program) string {
	c, err := p.Counters()
	if err != nil {
		return err.Error()
	}
	return "filter: " + c.String()
}

// each calls do with the words between commas.
func each(text string, do func(word string) error) error {
	for _, word := range strings.Split(text, ",") {
		if err := do(word); err != nil {
			return err
		}
	}
	return nil
}

// addPorts reads ports and ranges of them, as in 53,4000-4010.
func addPorts(ports *[]uint16, text string) error {
	return each(text, func(word string) error {
		from, to, isRange := strings.Cut(word, "-")
		if !isRange {
			to = from
		}
		first, err := strconv.ParseUint(from, 10, 16)
		last, lastErr := strconv.ParseUint(to, 10, 16)
		if err != nil || lastErr != nil || first == 0 || last < first {
			return fmt.Errorf("%q is no port; ports are 1 to 65535, with commas between, and ranges as in 4000-4010", word)
		}
		*ports = append(*ports, bpf.Ports(uint16(first), uint16(last))...)
		return nil
	})
}

// parsePrefix reads a prefix, or an address, which is the longest one.
func parsePrefix(word string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(word); err == nil {
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	p, err := netip.ParsePrefix(word)
	if err != nil {
		return p, fmt.Errorf("%q is no address or prefix, as in 192.0.2.0/24", word)
	}
	return p, nil
}
