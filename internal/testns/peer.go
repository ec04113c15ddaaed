package testns

import (
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// A Peer is a second network, at the far end of a veth pair: its kernel sockets
// talk to whatever the test does with the near end.
type Peer struct {
	Near string // the end in this namespace; the other one is eth0 in the peer's

	ns int // the peer's namespace
}

// NewPeer makes the pair and brings it up. The addresses are IPv4 with their
// prefix length, as in "192.0.2.1/24"; without nearAddress the near end has
// none. It is for an Example, which has no testing.T; a test calls MakePeer.
func NewPeer(near, nearAddress, farAddress string) (*Peer, error) {
	if !Inside() {
		return nil, errors.New("testns: a Peer is for a binary that Main runs, as root")
	}
	p := &Peer{Near: near}
	err := onThread(func() (err error) {
		if err = unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return err
		}
		p.ns, err = unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("testns: new network: %w", err)
	}
	err = p.connect(nearAddress, farAddress)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("testns: %w", err), p.Close())
	}
	return p, nil
}

func (p *Peer) connect(nearAddress, farAddress string) error {
	file := fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), p.ns)
	// Left to itself a veth can have as many queues as the machine has CPUs.
	if err := ip("link", "add", p.Near, "numtxqueues", "1", "numrxqueues", "1",
		"type", "veth", "peer", "name", "eth0", "numtxqueues", "1", "numrxqueues", "1", "netns", file); err != nil {
		return err
	}
	err := p.Do(func() error {
		return errors.Join(noIPv6(), ip("link", "set", "lo", "up"), raise("eth0", farAddress))
	})
	return errors.Join(err, raise(p.Near, nearAddress))
}

// raise brings an interface up that computes checksums itself.
func raise(ifname, address string) error {
	if err := txChecksumOff(ifname); err != nil {
		return fmt.Errorf("tx checksum offload of %s: %w", ifname, err)
	}
	if address != "" {
		if err := ip("address", "add", address, "dev", ifname); err != nil {
			return err
		}
	}
	return ip("link", "set", ifname, "up")
}

// MakePeer makes a Peer that lasts until t ends: 192.0.2.1 is near, 192.0.2.2
// far.
func MakePeer(t testing.TB) *Peer {
	t.Helper()
	Kernel(t)
	p, err := NewPeer(fmt.Sprintf("vp%d", veths.Add(1)), "192.0.2.1/24", "192.0.2.2/24")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

// Do runs f on a thread in the peer's network. Sockets that f makes stay there;
// f must wait for the processes it starts.
func (p *Peer) Do(f func() error) error {
	return onThread(func() error {
		if err := unix.Setns(p.ns, unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("testns: enter the peer: %w", err)
		}
		return f()
	})
}

// Dial makes a kernel UDP socket in the peer's network, as net.Dial does.
func (p *Peer) Dial(address string) (conn net.Conn, err error) {
	err = p.Do(func() error {
		conn, err = net.Dial("udp", address)
		return err
	})
	return conn, err
}

// Take moves an interface of this namespace to the peer's, where it gets another name.
func (p *Peer) Take(ifname, name string) error {
	return ip("link", "set", ifname, "netns", fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), p.ns), "name", name)
}

// Close removes the pair; the peer's network ends with its last socket.
func (p *Peer) Close() error {
	err := ip("link", "del", p.Near)
	return errors.Join(err, unix.Close(p.ns))
}

// IPv6 turns IPv6 on for one interface, in the network of the calling thread.
func IPv6(ifname string) error {
	return os.WriteFile("/proc/sys/net/ipv6/conf/"+ifname+"/disable_ipv6", []byte("0"), 0)
}

// onThread runs f on a thread that ends with it.
func onThread(f func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked
		done <- f()
	}()
	return <-done
}
