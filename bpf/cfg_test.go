package bpf_test

import (
	"debug/elf"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestObjectsHaveNoLoopByFallingThrough walks the functions of every committed object
// as the verifier of Linux 5.15 and 6.1 does before all else: depth first, where the
// instruction behind a conditional jump comes before the one that it leads to. Those
// kernels take a loop that a jump closes, and refuse the program if its last
// instruction falls through into its first. Which of them clang writes nobody can tell.
func TestObjectsHaveNoLoopByFallingThrough(t *testing.T) {
	objects, err := filepath.Glob("*.bpf.o")
	require.NoError(t, err)
	for _, pattern := range []string{"../examples/*/*.bpf.o", "../internal/kerneltest/*.bpf.o"} {
		more, err := filepath.Glob(pattern)
		require.NoError(t, err)
		objects = append(objects, more...)
	}
	require.Greater(t, len(objects), 3)
	functions := 0
	for _, name := range objects {
		data, err := os.ReadFile(name)
		require.NoError(t, err)
		file, err := elf.Open(name)
		require.NoError(t, err)
		defer file.Close()
		symbols, err := file.Symbols()
		require.NoError(t, err)
		for _, s := range symbols {
			if elf.ST_TYPE(s.Info) != elf.STT_FUNC {
				continue
			}
			functions++
			at := file.Sections[s.Section].Offset + s.Value
			assert.NoError(t, walk(data[at:at+s.Size]), "%s, %s", name, s.Name)
		}
	}
	assert.Greater(t, functions, 10)
}

// walk follows a function's code from its beginning.
func walk(code []byte) error {
	const unseen, open, done = 0, 1, 2 // not yet come to; on the way from the beginning; all behind it is walked
	state := make([]int, len(code)/8)
	var from func(at int) error
	step := func(at, next int, jump bool) error {
		switch {
		case next < 0 || next >= len(state):
			return fmt.Errorf("instruction %d leads out of the function", at)
		case state[next] == unseen:
			return from(next)
		case state[next] == open && !jump:
			return fmt.Errorf("instruction %d falls through into the beginning of its loop, %d", at, next)
		}
		return nil
	}
	from = func(at int) error {
		state[at] = open
		defer func() { state[at] = done }()
		op, offset := code[8*at], int(int16(binary.LittleEndian.Uint16(code[8*at+2:])))
		const ldImm64, ja, call, exit = 0x18, 0x05, 0x85, 0x95
		switch class := op & 7; {
		case op == exit:
			return nil
		case op == ldImm64:
			return step(at, at+2, false)
		case op == call || class != 5 && class != 6:
			return step(at, at+1, false)
		case op == ja:
			return step(at, at+1+offset, true)
		}
		if err := step(at, at+1, true); err != nil {
			return err
		}
		return step(at, at+1+offset, true)
	}
	return from(0)
}
