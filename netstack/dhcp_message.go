package netstack

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/iana"
	"gvisor.dev/gvisor/pkg/tcpip/header"
)

const (
	dhcpPort       = 68
	dhcpServerPort = 67

	// Places in a message: the transaction, and the two fields that option 52 may
	// fill with options.
	dhcpXID   = 4
	dhcpSName = 44
	dhcpFile  = 108
	dhcpEnd   = 236

	leastMessage = 576 // that a client must be able to take
)

// clientID is option 61 by RFC 4361: type 255, the identity of the interface, and a
// DUID of the UUID kind (RFC 6355). The UUID is a hash of the MAC address, so that it
// is the same after a restart, and is nobody else's: the kernel's clients make theirs
// of the MAC itself or of the machine's id, and a server that tells clients apart by
// this option lends the Host an address of its own.
func clientID(mac net.HardwareAddr) []byte {
	hash := sha256.Sum256(append([]byte("github.com/go-xsk/xsk/netstack DHCP client "), mac...))
	uuid := hash[:16]
	uuid[6], uuid[8] = uuid[6]&0x0f|0x80, uuid[8]&0x3f|0x80 // version 8, of our own making
	id := append([]byte{255}, mac[len(mac)-4:]...)
	id = binary.BigEndian.AppendUint16(id, 4) // DUID-UUID
	return append(id, uuid...)
}

// message is a message to servers with what each one has. secs is how long the client
// has been without an address, in seconds.
func (c *dhcpClient) message(kind dhcpv4.MessageType, xid uint32, secs uint16) *dhcpv4.DHCPv4 {
	m := &dhcpv4.DHCPv4{
		OpCode:        dhcpv4.OpcodeBootRequest,
		HWType:        iana.HWTypeEthernet,
		ClientHWAddr:  c.mac,
		NumSeconds:    secs,
		ClientIPAddr:  net.IPv4zero,
		YourIPAddr:    net.IPv4zero,
		ServerIPAddr:  net.IPv4zero,
		GatewayIPAddr: net.IPv4zero,
		Options:       dhcpv4.Options{},
	}
	binary.BigEndian.PutUint32(m.TransactionID[:], xid)
	m.UpdateOption(dhcpv4.OptMessageType(kind))
	m.UpdateOption(dhcpv4.OptClientIdentifier(c.id))
	if kind == dhcpv4.MessageTypeDiscover || kind == dhcpv4.MessageTypeRequest {
		// RFC 3442 wants 121 before 3.
		m.UpdateOption(dhcpv4.OptParameterRequestList(
			dhcpv4.OptionClasslessStaticRoute, dhcpv4.OptionSubnetMask, dhcpv4.OptionRouter, dhcpv4.OptionDomainNameServer,
			dhcpv4.OptionIPAddressLeaseTime, dhcpv4.OptionServerIdentifier, dhcpv4.OptionRenewTimeValue, dhcpv4.OptionRebindingTimeValue))
		longest := min(int(c.link.e.MTU()), defaultMTU) - header.IPv4MinimumSize - header.UDPMinimumSize
		m.UpdateOption(dhcpv4.OptMaxMessageSize(uint16(max(longest, leastMessage))))
	}
	return m
}

func withAddress(m *dhcpv4.DHCPv4, code dhcpv4.OptionCode, a netip.Addr) {
	if a.IsValid() {
		m.UpdateOption(dhcpv4.OptGeneric(code, a.AsSlice()))
	}
}

// frame is a packet from one address to another with a message in it.
func (c *dhcpClient) frame(to net.HardwareAddr, from, dst netip.Addr, m *dhcpv4.DHCPv4) []byte {
	payload := m.ToBytes()
	const headers = ethernet + header.IPv4MinimumSize + header.UDPMinimumSize
	b := make([]byte, headers, headers+len(payload))
	copy(b, to)
	copy(b[6:], c.mac)
	binary.BigEndian.PutUint16(b[12:], uint16(header.IPv4ProtocolNumber))
	b = append(b, payload...)
	ip := header.IPv4(b[ethernet:])
	ip.Encode(&header.IPv4Fields{
		TotalLength: uint16(len(ip)), TTL: 64, Protocol: protoUDP,
		SrcAddr: addressOf(from), DstAddr: addressOf(dst),
	})
	sumOf(ip[:header.IPv4MinimumSize]).put(ip[10:])
	udp := header.UDP(ip[header.IPv4MinimumSize:])
	udp.Encode(&header.UDPFields{SrcPort: dhcpPort, DstPort: dhcpServerPort, Length: uint16(len(udp))})
	pseudo(ip[12:20], protoUDP, len(udp)).plus(sumOf(udp)).put(udp[6:])
	if udp.Checksum() == 0 {
		udp.SetChecksum(0xffff)
	}
	return b
}

// dhcpPayload is the message in an IPv4 packet to a client's port; nil if that is not
// what it is. The packet may be anything. unfinished: its checksum is not to be looked
// at.
func dhcpPayload(b []byte, unfinished bool) []byte {
	ip := header.IPv4(b)
	if !ip.IsValid(len(b)) || ip.Protocol() != protoUDP || ip.More() || ip.FragmentOffset() != 0 {
		return nil
	}
	length := int(ip.HeaderLength())
	udp := header.UDP(b[length:ip.TotalLength()])
	if len(udp) < header.UDPMinimumSize || udp.DestinationPort() != dhcpPort {
		return nil
	}
	n := int(udp.Length())
	if n < header.UDPMinimumSize+dhcpEnd || n > len(udp) || !sumOf(ip[:length]).valid() {
		return nil
	}
	udp = udp[:n]
	if udp.Checksum() != 0 && !unfinished && !pseudo(ip[12:20], protoUDP, n).plus(sumOf(udp)).valid() {
		return nil
	}
	return udp[header.UDPMinimumSize:]
}

// parseMessage decodes a message, with the options that are in the fields for the
// server's name and the file (option 52).
func parseMessage(b []byte) (*dhcpv4.DHCPv4, error) {
	m, err := dhcpv4.FromBytes(b)
	if err != nil {
		return nil, err
	}
	overload := m.Options.Get(dhcpv4.OptionOptionOverload)
	if len(overload) != 1 {
		return m, nil
	}
	if overload[0]&1 != 0 {
		err = m.Options.FromBytes(b[dhcpFile:dhcpEnd])
	}
	if err == nil && overload[0]&2 != 0 {
		err = m.Options.FromBytes(b[dhcpSName:dhcpFile])
	}
	return m, err
}

// isOurs reports whether a server's message is the answer to ours: the transaction's,
// for our hardware, and for our identifier if it says one (RFC 6842).
func (c *dhcpClient) isOurs(m *dhcpv4.DHCPv4, xid uint32) bool {
	id := m.Options.Get(dhcpv4.OptionClientIdentifier)
	return m.OpCode == dhcpv4.OpcodeBootReply && m.HWType == iana.HWTypeEthernet &&
		binary.BigEndian.Uint32(m.TransactionID[:]) == xid &&
		string(m.ClientHWAddr) == string(c.mac) &&
		(len(id) == 0 || string(id) == string(c.id))
}

// kindOf is the message's type, or MessageTypeNone.
func kindOf(m *dhcpv4.DHCPv4) dhcpv4.MessageType {
	if b := m.Options.Get(dhcpv4.OptionDHCPMessageType); len(b) == 1 {
		return dhcpv4.MessageType(b[0])
	}
	return dhcpv4.MessageTypeNone
}

// serverOf is the server's identifier; not valid without.
func serverOf(m *dhcpv4.DHCPv4) netip.Addr {
	if all := hostsIn(m, dhcpv4.OptionServerIdentifier); len(all) == 1 {
		return all[0]
	}
	return netip.Addr{}
}

// hostsIn are the addresses of an option, without those that no host can have. An
// option of a length that cannot be has none.
func hostsIn(m *dhcpv4.DHCPv4, code dhcpv4.OptionCode) (all []netip.Addr) {
	b := m.Options.Get(code)
	if len(b)%4 != 0 {
		return nil
	}
	for ; len(b) > 0; b = b[4:] {
		if a := netip.AddrFrom4([4]byte(b)); isHost4(a) {
			all = append(all, a)
		}
	}
	return all
}

// messageText is what a server says to its refusal, for people.
func messageText(m *dhcpv4.DHCPv4) string {
	if b := m.Options.Get(dhcpv4.OptionMessage); len(b) > 0 {
		return fmt.Sprintf(" (%.80q)", b)
	}
	return ""
}
