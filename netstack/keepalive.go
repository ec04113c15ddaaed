package netstack

import (
	"net"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
)

// What package net has connections do, also: without it one whose other side has
// vanished is held for ever.
const (
	keepAliveIdle     = 15 * time.Second
	keepAliveInterval = 15 * time.Second
	keepAliveCount    = 9
)

// keepAlive is what connections begin with.
func (h *Host) keepAlive() net.KeepAliveConfig {
	idle := h.endpoint.options.KeepAlive
	return net.KeepAliveConfig{Enable: idle >= 0, Idle: max(idle, 0)}
}

// SetKeepAlive says whether to ask a silent other side if it is there.
func (c *TCPConn) SetKeepAlive(keepAlive bool) error {
	if err := c.usable(); err != nil {
		return c.fail("set", err)
	}
	c.ep.SocketOptions().SetKeepAlive(keepAlive)
	return nil
}

// SetKeepAlivePeriod is how long it may be silent before it is asked; 0 is 15 s, and
// below 0 changes nothing.
func (c *TCPConn) SetKeepAlivePeriod(d time.Duration) error {
	if err := c.usable(); err != nil {
		return c.fail("set", err)
	}
	return c.setIdle(d)
}

// SetKeepAliveConfig sets how the other side is asked. As in package net 0 is a
// default, of 15 s, 15 s and 9, and below 0 changes nothing.
func (c *TCPConn) SetKeepAliveConfig(config net.KeepAliveConfig) error {
	if err := c.usable(); err != nil {
		return c.fail("set", err)
	}
	return c.setKeepAlive(config)
}

func (c *TCPConn) setKeepAlive(config net.KeepAliveConfig) error {
	err := c.setIdle(config.Idle)
	if config.Interval == 0 {
		config.Interval = keepAliveInterval
	}
	if config.Count == 0 {
		config.Count = keepAliveCount
	}
	if interval := tcpip.KeepaliveIntervalOption(config.Interval); err == nil && interval > 0 {
		err = c.set(c.ep.SetSockOpt(&interval))
	}
	if err == nil && config.Count > 0 {
		err = c.set(c.ep.SetSockOptInt(tcpip.KeepaliveCountOption, config.Count))
	}
	if err == nil {
		c.ep.SocketOptions().SetKeepAlive(config.Enable)
	}
	return err
}

func (c *TCPConn) setIdle(d time.Duration) error {
	if d == 0 {
		d = keepAliveIdle
	}
	if idle := tcpip.KeepaliveIdleOption(d); idle > 0 {
		return c.set(c.ep.SetSockOpt(&idle))
	}
	return nil
}

func (c *TCPConn) set(err tcpip.Error) error {
	if err != nil {
		return c.fail("set", errnoOf(err))
	}
	return nil
}
