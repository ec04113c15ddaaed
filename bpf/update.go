package bpf

import (
	"errors"
	"fmt"
	"runtime"

	"golang.org/x/sys/unix"

	"github.com/go-xsk/xsk/internal/closed"
)

// Update changes the filter while packets flow. Each packet meets either the old
// filter or the new one, whole; none is lost in between, and the sockets stay
// where they are. A program with the new filter is loaded, which needs the
// capabilities of Attach, and takes the place of the old one in a single step.
// On error the old filter goes on.
//
// Some drivers may reset their rings even to replace a program by another; then
// packets that are in them are lost, as with Attach.
//
// Errors wrap the errno: EINVAL for a Filter that cannot be, EPERM without the
// capabilities, ENODEV if the interface is gone; os.ErrClosed after Close.
func (p *Program) Update(f Filter) error {
	if err := p.update(f.clone()); err != nil {
		return fmt.Errorf("bpf: update %s: %w", p.ifname, err)
	}
	return nil
}

func (p *Program) update(f Filter) error {
	if err := f.check(); err != nil {
		return err
	}
	runtime.LockOSThread() // see attach
	defer runtime.UnlockOSThread()
	if err := privileged(&f); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return closed.Err
	}
	if err := p.device.fits(&f); err != nil {
		return err
	}
	startCapture()
	defer stopCapture()
	i, err := load(p.source, newTables(&f, false), p.maps)
	if err != nil {
		return err
	}
	if err = linkUpdate(int(p.link), i.prog.FileDescriptor()); err != nil {
		i.close()
		if errors.Is(err, unix.ENOLINK) {
			return fmt.Errorf("%w: the interface went away", unix.ENODEV)
		}
		return err
	}
	p.image.close()
	p.image, p.filter = i, f
	return nil
}
