package xsk

import (
	"fmt"
	"net"
)

// Mode says how packets reach the Umem: "zero copy", or "copy" with the most
// likely reason in a sentence, as in "copy: the driver veth has no zero copy". It
// asks the kernel anew, and is for people to read; [Socket.ZeroCopy] is for
// programs. After Close the error is os.ErrClosed.
func (s *Socket) Mode() (string, error) {
	zc, err := s.ZeroCopy()
	switch {
	case err != nil:
		return "", err
	case zc:
		return "zero copy", nil
	}
	s.umem.mu.Lock()
	flags := s.umem.flags
	s.umem.mu.Unlock()
	return "copy: " + s.umem.whyCopy(s.rings.ifindex, flags), nil
}

// whyCopy is the likeliest reason why the kernel grants no zero copy.
func (u *Umem) whyCopy(ifindex int, flags BindFlags) string {
	i, err := net.InterfaceByIndex(ifindex)
	if err != nil {
		return "the interface is gone"
	}
	d, err := probe(i.Name)
	if err != nil {
		return err.Error()
	}
	return d.whyCopy(flags, u.MaxPacket())
}

// whyCopy takes the flags of the bind, and the longest packet that a frame holds.
func (d *Device) whyCopy(flags BindFlags, maxPacket int) string {
	const header = 18 // Ethernet's, with a VLAN tag
	driver := "the driver"
	if d.Driver != "" {
		driver += " " + d.Driver
	}
	switch multi := flags&BindMultiBuffer != 0; {
	case flags&BindCopy != 0:
		return "BindCopy asks for it"
	case d.Features == 0 && d.Unknown != nil:
		return fmt.Sprintf("what %s can do is unknown: %v", driver, d.Unknown)
	case d.Features&FeatureZeroCopy == 0:
		return driver + " has no zero copy"
	case multi && d.MaxSegs == 1:
		return driver + " has no zero copy for packets of several frames, which BindMultiBuffer asks for"
	case !multi && d.MTU+header > maxPacket:
		return fmt.Sprintf("the MTU of %d is too large for zero copy: a frame holds a packet of %d bytes", d.MTU, maxPacket)
	}
	return driver + " has zero copy but refuses it for this queue: the number of queues (ethtool -L), the sizes of rings and frames, or a setting of the NIC may not suit it; the kernel log may say which"
}
