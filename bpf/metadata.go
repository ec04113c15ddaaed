package bpf

import (
	_ "embed"
	"errors"

	"golang.org/x/sys/unix"

	"github.com/go-xsk/xsk/internal/kernel"
)

// metadataObject is the program for Options.Metadata. It is an object of its own,
// for its kernel functions take BTF of the kernel, which the other does without.
//
//go:embed metadata.bpf.o
var metadataObject []byte

// The names in metadata.bpf.c.
const (
	progMetadata    = "xsk_metadata"
	metadataSection = "xsk.metadata"
)

// metadataSource is for Options.Metadata. The kernel attaches a program that is
// bound to a device in native mode only.
func metadataSource(d *device) source {
	return source{metadataObject, []string{progMetadata}, d.index}
}

// errMetadata is why libbpf would not know what to do with the section.
var errMetadata = registerSection(metadataSection)

const metadataKernel = "6.3 programs bound to a device"

// metadataHint says what may be missing when the kernel refuses the program.
func metadataHint(err error) string {
	switch {
	case errMetadata != nil:
		return "libbpf refused a handler of the program's section: " + errMetadata.Error()
	case errors.Is(err, unix.EOPNOTSUPP):
		return "the interface's driver has no functions for Metadata; native XDP alone is not enough"
	case !kernel.AtLeast(metadataKernel):
		return "Metadata needs Linux 6.3"
	}
	return ""
}
