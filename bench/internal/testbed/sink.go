package testbed

import (
	"fmt"
	"net"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"

	"github.com/go-xsk/xsk/bench/internal/wire"
)

// A Sink is a BPF program on the peer's end of a pair. It drops everything as it
// arrives, so that whoever sends pays for no receiver, and counts: packets whose
// payload follows from their number, and others.
//
// In native mode it is an XDP program. In generic mode it is one of tc's, as
// early but for a tap: generic XDP first copies each packet to get it room in
// front, which no NIC does, and one from a packet socket's ring twice.
type Sink struct {
	counts *ebpf.Map
	prog   *ebpf.Program
	link   link.Link
}

// NewSink attaches one.
func NewSink(p *Pair, native bool) (*Sink, error) {
	s, err := newSink(p, native)
	if err != nil {
		return nil, fmt.Errorf("sink on %s: %w", p.Peer, err)
	}
	return s, nil
}

func newSink(p *Pair, native bool) (s *Sink, err error) {
	s = new(Sink)
	s.counts, err = ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.PerCPUArray, KeySize: 4, ValueSize: 8, MaxEntries: 2})
	if err != nil {
		return nil, err
	}
	spec := &ebpf.ProgramSpec{Name: "sink", Type: ebpf.SchedCLS, License: "BSD-2-Clause", Instructions: s.tc()}
	if native {
		const frags = 1 << 5 // BPF_F_XDP_HAS_FRAGS
		spec.Type, spec.Flags, spec.Instructions = ebpf.XDP, frags, s.xdp()
	}
	if s.prog, err = ebpf.NewProgram(spec); err != nil {
		return nil, err
	}
	return s, InPeer(func() error {
		i, err := net.InterfaceByName(p.Peer)
		if err != nil {
			return err
		}
		if native {
			s.link, err = link.AttachXDP(link.XDPOptions{Program: s.prog, Interface: i.Index, Flags: link.XDPDriverMode})
		} else {
			s.link, err = link.AttachTCX(link.TCXOptions{Program: s.prog, Interface: i.Index, Attach: ebpf.AttachTCXIngress})
		}
		return err
	})
}

// Close takes the program off.
func (s *Sink) Close() error {
	defer s.counts.Close()
	defer s.prog.Close()
	return s.link.Close()
}

// Count is how many packets have arrived, and how many of them were wrong.
func (s *Sink) Count() (all, wrong uint64, err error) {
	for key := range uint32(2) {
		var each []uint64
		if err := s.counts.Lookup(key, &each); err != nil {
			return 0, 0, fmt.Errorf("sink: %w", err)
		}
		for _, n := range each {
			all += n
			wrong += n * uint64(key)
		}
	}
	return all, wrong, nil
}

const (
	xdpDrop = 1
	tcDrop  = 2 // TC_ACT_SHOT
)

// xdp reads number and what follows it right from the packet.
func (s *Sink) xdp() asm.Instructions {
	return append(asm.Instructions{
		asm.LoadMem(asm.R2, asm.R1, 0, asm.Word), // data
		asm.LoadMem(asm.R3, asm.R1, 4, asm.Word), // data_end
		asm.Mov.Reg(asm.R4, asm.R2),
		asm.Add.Imm(asm.R4, wire.Headers+16),
		asm.JGT.Reg(asm.R4, asm.R3, "drop"),
		asm.LoadMem(asm.R6, asm.R2, wire.Headers, asm.DWord),
		asm.LoadMem(asm.R7, asm.R2, wire.Headers+8, asm.DWord),
	}, s.count(xdpDrop)...)
}

// tc has them copied: they need not lie where a program may look.
func (s *Sink) tc() asm.Instructions {
	return append(asm.Instructions{
		asm.Mov.Imm(asm.R2, wire.Headers),
		asm.Mov.Reg(asm.R3, asm.RFP),
		asm.Add.Imm(asm.R3, -24),
		asm.Mov.Imm(asm.R4, 16),
		asm.FnSkbLoadBytes.Call(),
		asm.JNE.Imm(asm.R0, 0, "drop"),
		asm.LoadMem(asm.R6, asm.RFP, -24, asm.DWord),
		asm.LoadMem(asm.R7, asm.RFP, -16, asm.DWord),
	}, s.count(tcDrop)...)
}

// count takes number and what follows it, as they came, in R6 and R7.
func (s *Sink) count(drop int32) asm.Instructions {
	spread := uint64(wire.Spread)
	return asm.Instructions{
		asm.HostTo(asm.BE, asm.R6, asm.DWord),
		asm.HostTo(asm.BE, asm.R7, asm.DWord),
		asm.LoadImm(asm.R8, int64(spread), asm.DWord),
		asm.Mul.Reg(asm.R6, asm.R8),
		asm.StoreImm(asm.RFP, -4, 0, asm.Word),
		asm.JEq.Reg(asm.R6, asm.R7, "count"),
		asm.StoreImm(asm.RFP, -4, 1, asm.Word),
		asm.LoadMapPtr(asm.R1, s.counts.FD()).WithSymbol("count"),
		asm.Mov.Reg(asm.R2, asm.RFP),
		asm.Add.Imm(asm.R2, -4),
		asm.FnMapLookupElem.Call(),
		asm.JEq.Imm(asm.R0, 0, "drop"),
		asm.LoadMem(asm.R1, asm.R0, 0, asm.DWord),
		asm.Add.Imm(asm.R1, 1),
		asm.StoreMem(asm.R0, 0, asm.R1, asm.DWord),
		asm.Mov.Imm(asm.R0, drop).WithSymbol("drop"),
		asm.Return(),
	}
}
