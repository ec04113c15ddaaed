package pcapfilter

import (
	"fmt"
	"strings"

	"github.com/cilium/ebpf/asm"
	"github.com/cloudflare/cbpfc"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcap"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// A Filter is an expression in tcpdump's language, pcap-filter(7), as in
//
//	tcp port 443 and not src net 192.0.2.0/24
//
// It is compiled for Ethernet. Names in it are looked up when it is compiled, as
// the system does (/etc/hosts, DNS, /etc/services, /etc/protocols). The empty
// Filter is an error, so that no machine is cut off by accident; "greater 0"
// matches every packet.
//
// libpcap takes its time over long expressions, as in tcpdump: a second or two
// for a hundred hosts with a port each. The tables of a bpf.Filter are for that.
type Filter string

// snaplen is what the compiled filter returns for a match. tcpdump's default.
const snaplen = 262144

// classic compiles the expression as tcpdump does, for packets that no kernel
// has touched: without the kernel's extensions for VLAN tags.
func (f Filter) classic() ([]bpf.Instruction, error) {
	if strings.TrimSpace(string(f)) == "" {
		return nil, fmt.Errorf(`%w: the Filter is empty; for every packet say "greater 0"`, unix.EINVAL)
	}
	if strings.ContainsRune(string(f), 0) {
		return nil, fmt.Errorf("%w: Filter %q has a zero byte in it", unix.EINVAL, string(f))
	}
	raw, err := pcap.CompileBPFFilter(layers.LinkTypeEthernet, snaplen, string(f))
	if err != nil {
		return nil, fmt.Errorf("%w: Filter %q: libpcap: %w", unix.EINVAL, string(f), err)
	}
	code := make([]bpf.Instruction, len(raw))
	for i, r := range raw {
		code[i] = bpf.RawInstruction{Op: r.Code, Jt: r.Jt, Jf: r.Jf, K: r.K}.Disassemble()
	}
	return code, nil
}

// Offsets in struct xdp_md.
const (
	offData    = 0
	offDataEnd = 4
	offQueue   = 16
)

// What an XDP program answers.
const (
	xdpPass     = 2
	xdpTx       = 3
	xdpRedirect = 4
)

// assemble makes the XDP program of the classic code: a packet that it matches
// goes to its queue's socket in the XSKMAP, or if there is none the program
// answers miss; XDP_PASS for every other packet.
func (f Filter) assemble(code []bpf.Instruction, xsks, miss int) (asm.Instructions, error) {
	wideConstants(code)
	matching, err := cbpfc.ToEBPF(code, cbpfc.EBPFOpts{
		PacketStart: asm.R2,
		PacketEnd:   asm.R3,
		Result:      asm.R4,
		ResultLabel: "result",
		Working:     [4]asm.Register{asm.R4, asm.R5, asm.R7, asm.R8},
		LabelPrefix: "filter",
	})
	if err != nil {
		return nil, fmt.Errorf("%w: Filter %q: no XDP program can be made of it: %w", unix.ENOTSUP, string(f), err)
	}
	program := asm.Instructions{
		asm.Mov.Reg(asm.R6, asm.R1),
		asm.LoadMem(asm.R2, asm.R6, offData, asm.Word),
		asm.LoadMem(asm.R3, asm.R6, offDataEnd, asm.Word),
	}
	program = append(program, wideCounts(matching)...)
	return append(program,
		asm.JEq.Imm(asm.R4, 0, "pass").WithSymbol("result"),
		asm.LoadMapPtr(asm.R1, xsks),
		asm.LoadMem(asm.R2, asm.R6, offQueue, asm.Word),
		asm.Mov.Imm(asm.R3, int32(miss)),
		asm.FnRedirectMap.Call(),
		asm.Return(),
		asm.Mov.Imm(asm.R0, xdpPass).WithSymbol("pass"),
		asm.Return(),
	), nil
}
