package netstack

import (
	"net"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
)

// Charged is what the stack charges a connection for what its buffers hold.
func Charged(conn net.Conn) (received, sent int) { return charged(conn.(*TCPConn).ep) }

// ChargedKnown reports whether the stack keeps these numbers where they are looked for.
func ChargedKnown() bool { return chargedKnown }

// PaceKnown reports whether what a pace sets was found.
func PaceKnown() bool { return paceFields.known }

// RaceDetector is on.
const RaceDetector = raceDetector

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

// Queued is what the segments that wait for a listener are charged.
func Queued(l net.Listener) int {
	n, _ := charged(l.(*TCPListener).ep)
	return n
}

// Hold keeps the stack from looking at what comes for a listener, until it is called.
func Hold(l net.Listener) (release func()) {
	ep := l.(*TCPListener).ep.(*tcp.Endpoint)
	ep.LockUser()
	return ep.UnlockUser
}

// SetDHCPSecond makes the seconds of DHCP clients shorter.
func SetDHCPSecond(d time.Duration) { dhcpSecond = d }
