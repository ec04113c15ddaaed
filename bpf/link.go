package bpf

import "golang.org/x/sys/unix"

// A link is the descriptor of a bpf_link: the program stays attached as long as
// it is open. It is none of libbpfgo's, which end with the module of the program
// that they began with; Update replaces that.
type link int

// destroy detaches before it closes: a child that is between fork and exec may
// hold the descriptor too, and would keep the program on.
func (l link) destroy() error {
	err := linkDetach(int(l))
	if closeErr := unix.Close(int(l)); err == nil {
		err = closeErr
	}
	return err
}
