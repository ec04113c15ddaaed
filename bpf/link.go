package bpf

import (
	"github.com/aquasecurity/libbpfgo"
	"golang.org/x/sys/unix"
)

// A link is a bpf_link: the program stays attached as long as it is there.
type link interface {
	FileDescriptor() int
	Destroy() error
}

// A linkFD is the link of a forced mode, for which libbpfgo has no call.
type linkFD int

func (l linkFD) FileDescriptor() int { return int(l) }
func (l linkFD) Destroy() error      { return unix.Close(int(l)) }

func newLink(prog *libbpfgo.BPFProg, d *device, mode Mode) (link, error) {
	if mode == Auto {
		l, err := prog.AttachXDP(d.name)
		if err != nil {
			return nil, cause(err)
		}
		return l, nil
	}
	fd, err := linkCreate(prog.FileDescriptor(), d.index, mode)
	if err != nil {
		return nil, err
	}
	return linkFD(fd), nil
}

// destroyLink detaches before it closes: a child that is between fork and exec
// may hold the descriptor too, and would keep the program on.
func destroyLink(l link) error {
	err := linkDetach(l.FileDescriptor())
	if closeErr := l.Destroy(); err == nil {
		err = closeErr
	}
	return err
}
