package bpf

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/go-xsk/xsk/internal/kernel"
	"github.com/go-xsk/xsk/internal/rights"
)

// privileged reports the capabilities that this thread lacks, before a dozen
// calls into the kernel fail one after the other. CAP_PERFMON is for the parser
// behind every filter but plain All and None: without it the verifier allows no
// offset into the packet that depends on the packet. Kernels before 6.8 verify the
// parser's functions also where nothing calls them.
func privileged(f *Filter) error {
	needed := []int{unix.CAP_NET_ADMIN, unix.CAP_BPF}
	if !f.plain() || !kernel.AtLeast("6.8 functions that are verified when called") {
		needed = append(needed, unix.CAP_PERFMON)
	}
	return rights.Program(needed...)
}

// forbidden is for EPERM although privileged found nothing missing.
const forbidden = "the process has the capabilities, but something else forbids it (a user namespace, seccomp, kernel lockdown?)"

// programs asks for the ids of the programs on the interface, 0 for none.
func (d *device) programs() (native, generic uint32, err error) {
	if native, generic, err = xdpQuery(d.index); err != nil {
		err = fmt.Errorf("ask for its XDP program: %w", rights.Refused(err, "AF_NETLINK"))
	}
	return native, generic, err
}

// vacant is an error that names the program on the interface, if there is one.
func (d *device) vacant() error {
	native, generic, err := d.programs()
	if err != nil {
		return err
	}
	switch {
	case native != 0:
		return d.occupied(native, "native", "xdpdrv")
	case generic != 0:
		return d.occupied(generic, "generic", "xdpgeneric")
	}
	return nil
}

// occupied names program id. mode is ours for it, keyword is ip(8)'s.
func (d *device) occupied(id uint32, mode, keyword string) error {
	name := progName(id)
	hint := ""
	switch name {
	case "":
		name = "(its name takes CAP_SYS_ADMIN)"
	case libxdpProgram:
		hint = fmt.Sprintf("; it is libxdp's own, which stays after a crash: bpf.RemoveStale or ip link set dev %s %s off removes it", d.name, keyword)
		name = `"` + name + `"`
	case progFrags, progSingle, progMetadata:
		hint = "; another bpf.Attach holds it"
		fallthrough
	default:
		name = `"` + name + `"`
	}
	return fmt.Errorf("%w: XDP program %d %s is attached already, in %s mode; nothing was replaced%s",
		unix.EBUSY, id, name, mode, hint)
}

// attachedMode asks the kernel where it put our program.
func (d *device) attachedMode() (Mode, error) {
	native, generic, err := d.programs()
	switch {
	case err != nil:
		return Auto, err
	case native != 0:
		return Native, nil
	case generic != 0:
		return Generic, nil
	}
	return Auto, fmt.Errorf("%w: the interface went away", unix.ENODEV)
}

// driverHasNative is NETDEV_XDP_ACT_BASIC.
const driverHasNative = 1

// explain adds to the errno of an attach what the user can do about it.
func (d *device) explain(err error, mode Mode) error {
	if errors.Is(err, unix.EBUSY) || errors.Is(err, unix.EEXIST) {
		if taken := d.vacant(); taken != nil {
			return taken
		}
	}
	hint := ""
	switch {
	case errors.Is(err, unix.EPERM):
		hint = forbidden
	case mode == Generic:
	case errors.Is(err, unix.EOPNOTSUPP):
		hint = d.noNative(mode)
	case errors.Is(err, unix.ERANGE):
		hint = "the MTU is too large for native XDP in this driver; lower it (on veth the peer's), or use bpf.Generic"
	case errors.Is(err, unix.ENOSPC):
		hint = "too few queues for native XDP in this driver (veth needs as many receive queues as its peer has transmit queues); " +
			"change them, or use bpf.Generic"
	case errors.Is(err, unix.ENOMEM):
		hint = "drivers answer so too when they have no queues left for XDP; set fewer with ethtool -L, or use bpf.Generic"
	}
	if hint == "" {
		return err
	}
	return fmt.Errorf("%w: %s", err, hint)
}

func (d *device) noNative(mode Mode) string {
	if xdpFeatures(d.index)&driverHasNative != 0 {
		return "the driver has native XDP but refuses it as the interface is configured (LRO, hardware GRO?); change that, or use bpf.Generic"
	}
	if mode == Auto {
		return "the driver refuses native XDP; use bpf.Generic"
	}
	return "the driver has no native XDP; use bpf.Auto or bpf.Generic"
}
