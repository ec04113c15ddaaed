package netstack

import (
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"

	"github.com/go-xsk/xsk"
)

// An Endpoint is gVisor's stack.LinkEndpoint over Ports, which are Queues as a rule.
// It cuts what the stack sends into packets (GSO), and joins received ones (GRO),
// while it copies them: there is one copy each way. It verifies all checksums. On a
// TCP connection where answers follow requests the acknowledgment of less than 536
// bytes waits up to 10 ms for an answer to carry it; others go out as soon as the
// burst that they are for has been seen to.
//
// It has one goroutine for each Port, from the first Attach, which
// stack.Stack.CreateNIC calls, until Close. Its methods may be called from any
// goroutine.
type Endpoint struct {
	ports    []Port
	options  Options
	mac      tcpip.LinkAddress
	filter   [6]byte // the MAC that packets are for
	mtu      atomic.Uint32
	capacity int // of a frame for sending

	to        atomic.Pointer[stack.NetworkDispatcher]
	host      atomic.Pointer[Host] // whose bounds hold; nil with another's stack
	verifying verifying
	counts    counters
	acks      acks
	paths     paths
	expired   func() // lets late ones go

	start     sync.Once
	receivers sync.WaitGroup
	sending   sync.RWMutex // read by who sends
	mu        sync.Mutex   // guards the rest
	closed    bool
	failed    error
	failure   func(error) // called when failed is set
	onClose   func()
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

	// The most that others can make a Host hold; 0 is the default. With a stack of
	// your own they are yours to set. Stats counts what they refuse.
	MaxConnections int // TCP connections, also those that close; default 8192
	MaxClosing     int // of these, those closed here that TCP is not through with (TIME-WAIT, data that nobody takes); default 4096
	Backlog        int // of each listener: connections that wait for Accept, and as many half-open ones; default 1024
	TCPMemory      int // bytes in the buffers of all connections, and at most twice as much for a moment; default 64 MiB
	MaxStrangers   int // hosts of our networks being asked for their MAC address because they sent something; default 32
	UDPBuffer      int // bytes that a UDPConn keeps until they are read, and until they are sent; default 2 MiB

	// KeepAlive is how long a connection is silent before the other side is asked if
	// it is there; default 15 s, as package net's, below 0 never. One that does not
	// answer nine times, 15 s apart, is gone. TCPConn.SetKeepAliveConfig changes it.
	KeepAlive time.Duration
}

// The MTU that IPv6 asks for at least, and the longest IP packet.
const (
	leastMTU   = 1280
	mostMTU    = 65535
	defaultMTU = 1500
)

// mostParts is how many frames make a packet at most; the kernel takes no more in
// copy mode.
const mostParts = 17

// NewEndpoint makes an Endpoint of Ports, []*xsk.Queue as a rule, which it owns from
// then on, with the MAC address that their packets come to. Nil Options are the
// defaults. An MTU that a frame has no room for takes Queues with BindMultiBuffer.
// On error the Ports stay the caller's; it wraps EINVAL for what cannot be, or is
// the Port's.
func NewEndpoint[P Port](ports []P, mac net.HardwareAddr, o *Options) (*Endpoint, error) {
	e := &Endpoint{mac: tcpip.LinkAddress(mac)}
	if o != nil {
		e.options = *o
	}
	for _, p := range ports {
		e.ports = append(e.ports, p)
	}
	e.expired = func() { e.letGo(true) }
	if err := e.check(mac); err != nil {
		return nil, fmt.Errorf("netstack: new endpoint: %w", err)
	}
	return e, nil
}

func (e *Endpoint) check(mac net.HardwareAddr) error {
	switch o := &e.options; {
	case len(e.ports) == 0:
		return invalid("there is no port to receive and send on")
	case len(mac) != len(e.filter) || mac[0]&1 != 0:
		return invalid("%q is not the MAC address of an interface", mac)
	case o.MTU == 0:
		o.MTU = defaultMTU
	case o.MTU < leastMTU || o.MTU > mostMTU:
		return invalid("MTU %d is not between %d and %d", o.MTU, leastMTU, mostMTU)
	}
	if err := e.options.setLimits(); err != nil {
		return err
	}
	copy(e.filter[:], mac)
	e.mtu.Store(uint32(e.options.MTU))
	return e.try()
}

// try looks at a frame of each port, for how much it holds and whether it takes
// what is to be asked for.
func (e *Endpoint) try() error {
	for i, port := range e.ports {
		var one [1]xsk.Frame
		n, err := port.TryAlloc(one[:])
		if err != nil {
			return err
		}
		if n == 0 {
			return fmt.Errorf("port %d has no frame to send in: %w", i, syscall.ENOBUFS)
		}
		if c := cap(one[0].Data); e.capacity == 0 || c < e.capacity {
			e.capacity = c
		}
		if e.options.ChecksumOffload {
			err = one[0].Request(xsk.TxRequest{Checksum: true})
		}
		xsk.Free(one[:])
		switch {
		case err != nil:
			return fmt.Errorf("ChecksumOffload: %w", err)
		case e.capacity < leastMTU/4:
			return invalid("port %d has frames of %d bytes, too small for the headers", i, e.capacity)
		case ethernet+e.options.MTU > mostParts*e.capacity:
			return invalid("MTU %d is more than %d frames of %d bytes hold", e.options.MTU, mostParts, e.capacity)
		}
	}
	return nil
}

// invalid is an error that says which rule was broken.
func invalid(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{syscall.EINVAL}, args...)...)
}

// Err is why receiving has ended on a Port before Close, as when the interface is
// gone (ENODEV); nil if it has not.
func (e *Endpoint) Err() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.failed
}

// receiveFailed reports whether there is no use in receiving again.
func (e *Endpoint) receiveFailed(err error) bool {
	switch {
	case errors.Is(err, os.ErrClosed):
		return true
	case errors.Is(err, syscall.ENOBUFS), errors.Is(err, os.ErrDeadlineExceeded):
		time.Sleep(time.Millisecond)
		return false
	}
	e.mu.Lock()
	if e.failed == nil {
		e.failed = err
	}
	failure := e.failure
	e.mu.Unlock()
	if failure != nil {
		failure(err)
	}
	return true
}

// onFailure sets what is called when receiving ends before Close; nil for nothing. It
// is called at once if that is so already.
func (e *Endpoint) onFailure(f func(error)) {
	e.mu.Lock()
	e.failure = f
	failed := e.failed
	e.mu.Unlock()
	if f != nil && failed != nil {
		f(failed)
	}
}

// Close closes the Ports, and returns when all frames have come back and no
// goroutine is left. What was sent but is still in a ring is lost. A stack calls it
// when it is destroyed. It may be called again.
func (e *Endpoint) Close() {
	e.mu.Lock()
	again, onClose := e.closed, e.onClose
	e.closed, e.onClose = true, nil
	e.mu.Unlock()
	if !again {
		e.acks.closed.Store(true)
		e.letGo(true) // the other side may wait for one, to be rid of a connection
		e.letGo(false)
		for _, port := range e.ports {
			_ = port.Close()
		}
		if onClose != nil {
			onClose()
		}
	}
	e.start.Do(func() {}) // nobody begins any more
	e.receivers.Wait()
	e.sending.Lock() // nobody is in WritePackets
	defer e.sending.Unlock()
	e.acks.close()
}

// Attach starts the goroutines and gives packets to dispatcher; nil drops them. It
// is for stack.Stack to call.
func (e *Endpoint) Attach(dispatcher stack.NetworkDispatcher) {
	if dispatcher == nil {
		e.to.Store(nil)
		return
	}
	e.to.Store(&dispatcher)
	e.start.Do(func() {
		for _, port := range e.ports {
			e.receivers.Go(newReceiver(e, port).receive)
		}
	})
}

func (e *Endpoint) dispatcher() stack.NetworkDispatcher {
	if d := e.to.Load(); d != nil {
		return *d
	}
	return nil
}

// IsAttached reports whether packets go to a stack.
func (e *Endpoint) IsAttached() bool { return e.to.Load() != nil }

// Wait returns when the goroutines have ended, after Close.
func (e *Endpoint) Wait() { e.receivers.Wait() }

// MTU is the longest IP packet that goes out.
func (e *Endpoint) MTU() uint32 { return e.mtu.Load() }

// SetMTU changes it, but to no more than Options.MTU, which the frames were made
// for.
func (e *Endpoint) SetMTU(mtu uint32) { e.mtu.Store(min(mtu, uint32(e.options.MTU))) }

// MaxHeaderLength is the length of an Ethernet header.
func (e *Endpoint) MaxHeaderLength() uint16 { return ethernet }

// LinkAddress is the MAC address.
func (e *Endpoint) LinkAddress() tcpip.LinkAddress { return e.mac }

// SetLinkAddress does nothing: the MAC address is the interface's.
func (e *Endpoint) SetLinkAddress(tcpip.LinkAddress) {}

// ARPHardwareType is Ethernet.
func (e *Endpoint) ARPHardwareType() header.ARPHardwareType { return header.ARPHardwareEther }

// Capabilities say that the stack need not verify checksums, except while it is
// given a piece of a datagram.
func (e *Endpoint) Capabilities() stack.LinkEndpointCapabilities {
	if e.verifying.off.Load() {
		return stack.CapabilityResolutionRequired
	}
	return stack.CapabilityResolutionRequired | stack.CapabilityRXChecksumOffload
}

// AddHeader puts the Ethernet header before a packet.
func (e *Endpoint) AddHeader(pkt *stack.PacketBuffer) {
	eth := header.Ethernet(pkt.LinkHeader().Push(ethernet))
	eth.Encode(&header.EthernetFields{
		SrcAddr: pkt.EgressRoute.LocalLinkAddress,
		DstAddr: pkt.EgressRoute.RemoteLinkAddress,
		Type:    pkt.NetworkProtocolNumber,
	})
}

// ParseHeader takes it off.
func (e *Endpoint) ParseHeader(pkt *stack.PacketBuffer) bool {
	_, ok := pkt.LinkHeader().Consume(ethernet)
	return ok
}

// SetOnCloseAction sets what Close calls.
func (e *Endpoint) SetOnCloseAction(f func()) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.onClose = f
}

// SupportedGSO says that the stack may leave it to us to cut, up to GSOMaxSize.
func (e *Endpoint) SupportedGSO() stack.SupportedGSO {
	if e.options.NoGSO {
		return stack.GSONotSupported
	}
	return stack.HostGSOSupported
}

// GSOMaxSize is how long a packet to be cut may be.
func (e *Endpoint) GSOMaxSize() uint32 { return longestIP }
