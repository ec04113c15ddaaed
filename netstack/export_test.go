package netstack

import "net"

// Charged is what the stack charges a connection for what its buffers hold.
func Charged(conn net.Conn) (received, sent int) { return charged(conn.(*TCPConn).ep) }

// ChargedKnown reports whether the stack keeps these numbers where they are looked for.
func ChargedKnown() bool { return chargedKnown }

// RaceDetector is on.
const RaceDetector = raceDetector

// Share is what a connection of h may hold while memory is short.
func Share(h *Host) int { return int(h.ledger.share.Load()) }
