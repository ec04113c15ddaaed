package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
)

// ringsPart runs the root package's BenchmarkCompare: what the program's side of
// the rings costs, without a kernel. It fails if a way moves other packets than
// it should.
func ringsPart(s settings, r *results) error {
	rounds := "2000x"
	if s.quick {
		rounds = "100x"
	}
	var said bytes.Buffer
	cmd := exec.Command(binary("xsk.test"), "-test.run", "^$", "-test.bench", "^BenchmarkCompare$", "-test.benchtime", rounds)
	cmd.Stdout, cmd.Stderr = &said, os.Stderr
	if err := cmd.Run(); err != nil {
		_, _ = io.Copy(os.Stderr, &said)
		return fmt.Errorf("rings: %w: %w", errWrong, err)
	}
	// What the testing package says around it is none of it.
	text, _, _ := strings.Cut(said.String(), "goos: ")
	_, text, ok := strings.Cut(text, "ns per packet")
	if !ok {
		return fmt.Errorf("rings: %w: the benchmark printed no table", errWrong)
	}
	text = "ns per packet" + text
	fmt.Print(text)
	fmt.Println("# wanted: at most +1.50 at burst 64 and +0.60 at 256 for RxBurst and TxBurst, +8.00 at 64 for Queue, and no allocation")
	tables, _, _ := strings.Cut(text, "bench: ")
	r.part("rings", s).Text = tables
	return nil
}
