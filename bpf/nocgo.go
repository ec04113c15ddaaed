//go:build !linux || !cgo

// The package clause is the message: the build stops with this name in it.
package bpf_needs_Linux_and_CGO_ENABLED_1_and_a_C_compiler
