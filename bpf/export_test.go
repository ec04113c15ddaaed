package bpf

import (
	"bytes"
	"net"
	"testing"
)

// ProgFD returns the program's descriptor, for test runs.
func (p *Program) ProgFD() int { return p.image.prog.FileDescriptor() }

// SingleBuffer makes Attach behave as on a kernel before 5.18 until t ends.
func SingleBuffer(t *testing.T) {
	before := candidates
	candidates = []string{progSingle}
	t.Cleanup(func() { candidates = before })
}

// BreakProgram makes the program call a helper that no kernel has, until t ends.
func BreakProgram(t *testing.T) {
	before := object
	object = broken(object)
	t.Cleanup(func() { object = before })
}

func broken(object []byte) []byte {
	return bytes.ReplaceAll(object, []byte{0x85, 0, 0, 0, 51, 0, 0, 0}, []byte{0x85, 0, 0, 0, 0, 1, 1, 0})
}

// BreakUpdate does so to the programs that Update loads for p.
func BreakUpdate(p *Program) { p.source.object = broken(p.source.object) }

// NoRoomForMetadata makes the program ask for a byte less than it writes, which
// the kernel refuses, until t ends.
func NoRoomForMetadata(t *testing.T) {
	before := metadataObject
	metadataObject = bytes.ReplaceAll(metadataObject, []byte{0x18, 2, 0, 0, 0xe8, 0xff, 0xff, 0xff}, []byte{0x18, 2, 0, 0, 0xe9, 0xff, 0xff, 0xff})
	t.Cleanup(func() { metadataObject = before })
}

// SetQuietLogger is what the package's initialization does.
func SetQuietLogger() { setQuietLogger() }

// XDPQuery returns the ids of the programs on an interface.
func XDPQuery(ifname string) (native, generic uint32, err error) {
	device, err := net.InterfaceByName(ifname)
	if err != nil {
		return 0, 0, err
	}
	return xdpQuery(device.Index)
}

// NewMatcher loads a filter once, to match many packets.
func NewMatcher(f *Filter) (*matcher, error)         { return newMatcher(f) }
func (m *matcher) Match(packet []byte) (bool, error) { return m.match(packet) }
func (m *matcher) Close()                            { m.close() }

// FD is the program's descriptor.
func (m *matcher) FD() int { return m.image.prog.FileDescriptor() }

// LinkUpdate puts another program in the place of p's.
func LinkUpdate(p *Program, prog int) error { return linkUpdate(int(p.link), prog) }

// AttachedName is the name of the program on an interface.
func AttachedName(ifname string) (string, error) {
	native, generic, err := XDPQuery(ifname)
	if err != nil {
		return "", err
	}
	return progName(max(native, generic)), nil
}
