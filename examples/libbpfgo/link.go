package main

// libbpfgo leaves the choice of libbpf to the program that uses it. This is the
// system's; CGO_LDFLAGS=-lbpf would do as well.

// #cgo !xsk_static pkg-config: libbpf
// #cgo xsk_static pkg-config: --static libbpf
import "C"
