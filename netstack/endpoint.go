package netstack

import (
	"errors"
	"net"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

var errNotYet = errors.New("netstack: not yet")

// An Endpoint is gVisor's stack.LinkEndpoint over Ports, which are Queues as a rule.
// It cuts what the stack sends into packets (GSO), and joins received ones (GRO),
// while it copies them: there is one copy each way. It verifies all checksums.
//
// It has one goroutine for each Port, from the first Attach, which
// stack.Stack.CreateNIC calls, until Close.
type Endpoint struct {
	mtu uint32
	mac tcpip.LinkAddress
}

var (
	_ stack.LinkEndpoint = (*Endpoint)(nil)
	_ stack.GSOEndpoint  = (*Endpoint)(nil)
)

// Options are what an Endpoint may do otherwise.
type Options struct {
	MTU             int  // in bytes, without the Ethernet header; default 1500, or with Open the interface's
	ChecksumOffload bool // leave TCP checksums to the device; the Ports' memory needs UmemConfig.TxMetadataLen
	NoGSO           bool // let the stack cut what it sends
	NoGRO           bool // give each packet to the stack by itself
}

// Stats are the counts of an Endpoint since it was made.
type Stats struct {
	RxPackets   uint64 // taken from the Ports
	RxDelivered uint64 // given to the stack, after joining
	RxBad       uint64 // dropped: wrong checksum, or a header that cannot be
	RxUnwanted  uint64 // dropped: no stack is attached, or not for it
	TxPackets   uint64 // given to the Ports, after cutting
	TxTaken     uint64 // taken from the stack
	TxNoFrame   uint64 // dropped: no frame was free, or no room in the ring
	TxRefused   uint64 // dropped: a Port would not have them
}

// NewEndpoint makes an Endpoint of Ports, []*xsk.Queue as a rule, which it owns from
// then on, with the MAC address that their packets come to. Nil Options are the
// defaults. On error the Ports stay the caller's; the errors wrap EINVAL.
func NewEndpoint[P Port](ports []P, mac net.HardwareAddr, o *Options) (*Endpoint, error) {
	return nil, errNotYet
}

// Stats returns the counts. It may be called from any goroutine, also after Close.
func (e *Endpoint) Stats() Stats { return Stats{} }

// Close closes the Ports, and returns when all frames have come back and no
// goroutine is left. What was sent but is still in a ring is lost. A stack calls it
// when it is destroyed. It may be called again.
func (e *Endpoint) Close() {}

func (e *Endpoint) MTU() uint32                                            { return e.mtu }
func (e *Endpoint) SetMTU(mtu uint32)                                      {}
func (e *Endpoint) MaxHeaderLength() uint16                                { return header.EthernetMinimumSize }
func (e *Endpoint) LinkAddress() tcpip.LinkAddress                         { return e.mac }
func (e *Endpoint) SetLinkAddress(mac tcpip.LinkAddress)                   {}
func (e *Endpoint) Capabilities() stack.LinkEndpointCapabilities           { return 0 }
func (e *Endpoint) Attach(stack.NetworkDispatcher)                         {}
func (e *Endpoint) IsAttached() bool                                       { return false }
func (e *Endpoint) Wait()                                                  {}
func (e *Endpoint) ARPHardwareType() header.ARPHardwareType                { return header.ARPHardwareEther }
func (e *Endpoint) AddHeader(*stack.PacketBuffer)                          {}
func (e *Endpoint) ParseHeader(*stack.PacketBuffer) bool                   { return false }
func (e *Endpoint) SetOnCloseAction(func())                                {}
func (e *Endpoint) WritePackets(stack.PacketBufferList) (int, tcpip.Error) { return 0, nil }
func (e *Endpoint) GSOMaxSize() uint32                                     { return 65535 }
func (e *Endpoint) SupportedGSO() stack.SupportedGSO                       { return stack.HostGSOSupported }
