package pcapfilter

import (
	"fmt"

	"github.com/cilium/ebpf/asm"
	"golang.org/x/net/bpf"
)

// libpcap's shift by 32 or more gives 0. The kernel's takes the count modulo 32, and
// its verifier refuses such a constant.
const wordBits = 32

// wideConstants makes 0 of what is shifted by a constant that is too large.
func wideConstants(code []bpf.Instruction) {
	for i := range code {
		if op, is := code[i].(bpf.ALUOpConstant); is && op.Val >= wordBits && (op.Op == bpf.ALUOpShiftLeft || op.Op == bpf.ALUOpShiftRight) {
			code[i] = bpf.LoadConstant{Dst: bpf.RegA}
		}
	}
}

// wideCounts does so before each shift by a register that is too large:
//
//	        if count < 32 goto shift
//	        value = 0
//	shift:  value <<= count
//
// Jumps in the program go to labels, so there may be instructions more. Registers are
// written by 32 bits, so that a comparison of 64 sees the same.
func wideCounts(program asm.Instructions) asm.Instructions {
	var all asm.Instructions
	for i, ins := range program {
		class, op := ins.OpCode.Class(), ins.OpCode.ALUOp()
		if !class.IsALU() || op != asm.LSh && op != asm.RSh || ins.OpCode.Source() != asm.RegSource {
			all = append(all, ins)
			continue
		}
		label := fmt.Sprint("shift-", i)
		check := asm.JLT.Imm(ins.Src, wordBits, label)
		if jumpedTo := ins.Symbol(); jumpedTo != "" {
			check = check.WithSymbol(jumpedTo)
		}
		all = append(all, check, asm.Mov.Imm(ins.Dst, 0), ins.WithSymbol(label))
	}
	return all
}
