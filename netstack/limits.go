package netstack

import (
	"cmp"
	"sync/atomic"
)

// What peers can make a Host hold at most, unless Options say otherwise.
const (
	mostConnections = 8192
	mostClosing     = 4096
	defaultBacklog  = 1024
	defaultMemory   = 64 << 20
	mostStrangers   = 32
	udpBuffer       = 2 << 20
)

// setLimits fills in the defaults of the bounds.
func (o *Options) setLimits() error {
	for _, limit := range []struct {
		name  string
		value *int
		usual int
	}{
		{"MaxConnections", &o.MaxConnections, mostConnections},
		{"MaxClosing", &o.MaxClosing, mostClosing},
		{"Backlog", &o.Backlog, defaultBacklog},
		{"TCPMemory", &o.TCPMemory, defaultMemory},
		{"MaxStrangers", &o.MaxStrangers, mostStrangers},
		{"UDPBuffer", &o.UDPBuffer, udpBuffer},
	} {
		if *limit.value < 0 {
			return invalid("%s %d is below 0", limit.name, *limit.value)
		}
		*limit.value = cmp.Or(*limit.value, limit.usual)
	}
	return nil
}

// limitCounters count when a bound of a Host bites.
type limitCounters struct {
	connections atomic.Uint64 // refused: there are MaxConnections
	flooded     atomic.Uint64 // segments for a listener that is behind
	strangers   atomic.Uint64 // packets of hosts that would have to be asked for
	closed      atomic.Uint64 // connections that were closing
	memory      atomic.Uint64 // times TCPMemory was found exceeded
	datagrams   atomic.Uint64 // for a socket that holds too many
}
