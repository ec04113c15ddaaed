package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
)

// A network is a TCP/IP stack.
type network interface {
	Dial(ctx context.Context, server netip.AddrPort) (net.Conn, error)
	Listen(at netip.AddrPort) (net.Listener, error)
	Losses() (losses, error)
	Close() error
}

// Losses are counts since the network was opened, or since the kernel was.
type losses struct {
	Retransmits uint64 // TCP segments sent once more
	Drops       uint64 // packets that came or went, and were thrown away on this side
}

// A kernelNetwork is the kernel's own stack.
type kernelNetwork struct{}

func openKernel(context.Context, *options) (network, error) { return kernelNetwork{}, nil }

func (kernelNetwork) String() string { return "the kernel's TCP" }
func (kernelNetwork) Close() error   { return nil }

func (kernelNetwork) Dial(ctx context.Context, server netip.AddrPort) (net.Conn, error) {
	return (&net.Dialer{}).DialContext(ctx, "tcp", server.String())
}

func (kernelNetwork) Listen(at netip.AddrPort) (net.Listener, error) {
	return net.Listen("tcp", at.String())
}

// Losses are the counters of this network namespace.
func (kernelNetwork) Losses() (losses, error) {
	text, err := os.ReadFile("/proc/self/net/snmp")
	if err != nil {
		return losses{}, err
	}
	// A line of names, and one of values.
	var names []string
	for line := range strings.Lines(string(text)) {
		words := strings.Fields(line)
		if len(words) == 0 || words[0] != "Tcp:" {
			continue
		}
		if names == nil {
			names = words
			continue
		}
		var l losses
		for i, name := range names[:min(len(names), len(words))] {
			switch name {
			case "RetransSegs":
				l.Retransmits, err = strconv.ParseUint(words[i], 10, 64)
			case "InErrs":
				l.Drops, err = strconv.ParseUint(words[i], 10, 64)
			}
			if err != nil {
				return losses{}, fmt.Errorf("/proc/self/net/snmp: %w", err)
			}
		}
		return l, nil
	}
	return losses{}, errors.New("/proc/self/net/snmp: no line of TCP's")
}
