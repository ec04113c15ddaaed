package netstack

import "syscall"

// SetReadBuffer sets how many bytes of a connection may wait to be read, which then
// does not grow by itself any more. Options.TCPMemory may make it less.
func (c *TCPConn) SetReadBuffer(bytes int) error {
	return c.setBuffer(bytes, c.ep.SocketOptions().SetReceiveBufferSize)
}

// SetWriteBuffer sets how many bytes may wait to be acknowledged, likewise.
func (c *TCPConn) SetWriteBuffer(bytes int) error {
	return c.setBuffer(bytes, c.ep.SocketOptions().SetSendBufferSize)
}

func (c *TCPConn) setBuffer(bytes int, set func(int64, bool)) error {
	if err := c.host.setBuffer(&c.socket, bytes, set); err != nil {
		return c.fail("set", err)
	}
	return nil
}

// setBuffer sets a buffer of a socket, within what may be.
func (h *Host) setBuffer(s *socket, bytes int, set func(int64, bool)) error {
	if err := s.usable(); err != nil {
		return err
	}
	if bytes <= 0 {
		return syscall.EINVAL
	}
	set(int64(min(max(bytes, leastBuffer), mostBuffer)), true)
	return nil
}

// usable says why a socket's options cannot be set any more; nil if they can.
func (s *socket) usable() error {
	select {
	case <-s.done:
		return errClosed
	case <-s.host.done:
		return errClosed
	default:
		return nil
	}
}
