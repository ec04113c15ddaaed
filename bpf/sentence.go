package bpf

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// most is how many values of a rule String prints; of more it tells the number.
const most = 4

// String is the filter as a sentence, as in
//
//	UDP ports 53, 4000-4010 or source 192.0.2.0/24, but not ping or management
func (f Filter) String() string {
	var words string
	switch matching := f.phrases(); {
	case f.All:
		words = "all packets"
	case len(matching) == 0:
		return "no packets"
	default:
		words = strings.Join(matching, " or ")
	}
	var but []string
	if f.Except != nil {
		but = f.Except.phrases()
	}
	if f.KeepManagement {
		words := "management"
		if len(f.ManagementPorts) > 0 {
			words += " with " + portsPhrase("", f.ManagementPorts)
		}
		but = append(but, words)
	}
	if len(but) > 0 {
		words += ", but not " + strings.Join(but, " or ")
	}
	return words
}

// phrases are the rules, in the order of the fields.
func (f *Filter) phrases() []string {
	var all []string
	add := func(phrase string) {
		if phrase != "" {
			all = append(all, phrase)
		}
	}
	add(portsPhrase("UDP ", f.UDPPorts))
	add(portsPhrase("TCP ", f.TCPPorts))
	add(portsPhrase("UDP source ", f.UDPSourcePorts))
	add(portsPhrase("TCP source ", f.TCPSourcePorts))
	if f.Ping {
		add("ping")
	}
	add(phrase("protocol", f.Protocols, protocolName))
	add(phrase("source", f.Sources, netip.Prefix.String))
	add(phrase("destination", f.Destinations, netip.Prefix.String))
	add(phrase("host", f.Hosts, netip.Addr.String))
	add(phrase("flow", f.Flows, Flow.String))
	add(phrase("EtherType", f.EtherTypes, func(t uint16) string { return fmt.Sprintf("%#04x", t) }))
	add(phrase("MAC", f.MACs, net.HardwareAddr.String))
	if f.VLAN != 0 {
		add(fmt.Sprintf("VLAN %d", f.VLAN))
	}
	return all
}

// String is the flow as in "UDP 192.0.2.1:53 to 192.0.2.2"; a port that may be
// any is left out.
func (f Flow) String() string {
	end := func(a netip.AddrPort) string {
		if a.Port() == 0 {
			return a.Addr().String()
		}
		return a.String()
	}
	words := end(f.Source) + " to " + end(f.Destination)
	if f.Protocol != 0 {
		words = protocolName(f.Protocol) + " " + words
	}
	return words
}

func protocolName(p uint8) string {
	switch p {
	case unix.IPPROTO_TCP:
		return "TCP"
	case unix.IPPROTO_UDP:
		return "UDP"
	}
	return strconv.Itoa(int(p))
}

// phrase is the noun, in its number, with the values.
func phrase[T any](noun string, values []T, text func(T) string) string {
	switch n := len(values); {
	case n == 0:
		return ""
	case n > most:
		return count(n, noun)
	case n > 1:
		noun += "s"
	}
	words := make([]string, len(values))
	for i, v := range values {
		words[i] = text(v)
	}
	return noun + " " + strings.Join(words, ", ")
}

// portsPhrase writes neighbours as a range.
func portsPhrase(kind string, ports []uint16) string {
	if len(ports) == 0 {
		return ""
	}
	ports = slices.Compact(slices.Sorted(slices.Values(ports)))
	var ranges []string
	for i := 0; i < len(ports); {
		first := i
		for i++; i < len(ports) && ports[i]-1 == ports[i-1]; i++ {
		}
		text := strconv.Itoa(int(ports[first]))
		if i-first > 1 {
			text += "-" + strconv.Itoa(int(ports[i-1]))
		}
		ranges = append(ranges, text)
	}
	if len(ranges) > most {
		return count(len(ports), kind+"port")
	}
	noun := "port "
	if len(ports) > 1 {
		noun = "ports "
	}
	return kind + noun + strings.Join(ranges, ", ")
}
