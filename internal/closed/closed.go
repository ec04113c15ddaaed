// Package closed has the error that follows Close.
package closed

import (
	"net"
	"os"
)

// Err is what everything answers after its Close. It is os.ErrClosed for programs that
// read files, and net.ErrClosed for those that know package net.
var Err error = closedError{}

type closedError struct{}

func (closedError) Error() string { return "already closed" }

func (closedError) Is(target error) bool { return target == os.ErrClosed || target == net.ErrClosed }
