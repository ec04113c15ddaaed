package netstack

import (
	"net"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
)

// Charged is what the stack charges a connection for what its buffers hold.
func Charged(conn net.Conn) (received, sent int) { return charged(conn.(*TCPConn).ep) }

// ChargedKnown reports whether the stack keeps these numbers where they are looked for.
func ChargedKnown() bool { return chargedKnown }

// RaceDetector is on.
const RaceDetector = raceDetector

// Share is what a connection of h may hold while memory is short.
func Share(h *Host) int { return int(h.ledger.share.Load()) }

// KeepAlive is what a connection does by now.
func KeepAlive(conn net.Conn) net.KeepAliveConfig {
	ep := conn.(*TCPConn).ep
	var idle tcpip.KeepaliveIdleOption
	var interval tcpip.KeepaliveIntervalOption
	_, _ = ep.GetSockOpt(&idle), ep.GetSockOpt(&interval)
	count, _ := ep.GetSockOptInt(tcpip.KeepaliveCountOption)
	return net.KeepAliveConfig{
		Enable: ep.SocketOptions().GetKeepAlive(), Idle: time.Duration(idle), Interval: time.Duration(interval), Count: count,
	}
}
