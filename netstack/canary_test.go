package netstack

import (
	"context"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/link/channel"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
)

// gVisor's package gro asks ChecksumAtOffset for the checksum of a packet whose link
// header was consumed, and gets that of other bytes: it joins nothing then. That is
// one reason why this package joins by itself.
func TestUpstreamChecksumStillForgetsTheLinkHeader(t *testing.T) {
	b := make([]byte, ethernet+40)
	for i := range b {
		b[i] = byte(3*i + 1)
	}
	pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buffer.MakeWithData(b)})
	defer pkt.DecRef()
	_, ok := pkt.LinkHeader().Consume(ethernet)
	require.True(t, ok)
	const at = 20
	right, wrong := checksum.Checksum(b[ethernet+at:], 0), checksum.Checksum(b[at:], 0)
	require.NotEqual(t, right, wrong)
	assert.Equal(t, wrong, pkt.Data().ChecksumAtOffset(at),
		"gVisor has mended PacketData.ChecksumAtOffset: its package gro works behind a link header now, see joiner")
}

// A NIC overwrites PacketBuffer.RXChecksumValidated by what the link endpoint can do.
// So an Endpoint says that it verifies, and takes that back for the moment in which
// it gives the stack a packet that it has not verified.
func TestUpstreamStillOverwritesWhatWasVerified(t *testing.T) {
	s := stack.New(stack.Options{
		NetworkProtocols:   []stack.NetworkProtocolFactory{ipv4.NewProtocol},
		TransportProtocols: []stack.TransportProtocolFactory{tcp.NewProtocol},
	})
	defer s.Destroy()
	link := channel.New(1, defaultMTU, "")
	require.Nil(t, s.CreateNIC(nic, link))
	to := tcpip.AddrFrom4([4]byte{192, 0, 2, 1})
	require.Nil(t, s.AddProtocolAddress(nic, tcpip.ProtocolAddress{
		Protocol: ipv4.ProtocolNumber, AddressWithPrefix: to.WithPrefix(),
	}, stack.AddressProperties{}))

	b := make([]byte, header.IPv4MinimumSize+header.TCPMinimumSize)
	ip := header.IPv4(b)
	ip.Encode(&header.IPv4Fields{
		TotalLength: uint16(len(b)), TTL: 64, Protocol: protoTCP,
		SrcAddr: tcpip.AddrFrom4([4]byte{192, 0, 2, 2}), DstAddr: to,
	})
	ip.SetChecksum(^ip.CalculateChecksum())
	header.TCP(ip.Payload()).Encode(&header.TCPFields{
		SrcPort: 1, DstPort: 2, DataOffset: header.TCPMinimumSize, Flags: header.TCPFlagSyn, Checksum: 0x1234,
	})
	pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buffer.MakeWithData(b)})
	defer pkt.DecRef()
	pkt.RXChecksumValidated = true
	link.InjectInbound(ipv4.ProtocolNumber, pkt)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	assert.Nil(t, link.ReadContext(ctx),
		"gVisor answered a segment whose checksum is wrong: it believes PacketBuffer.RXChecksumValidated now, so verifying is not needed")
	assert.False(t, pkt.RXChecksumValidated, "gVisor leaves RXChecksumValidated alone now, so verifying is not needed")
}
