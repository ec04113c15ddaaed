package netstack

import (
	"errors"

	"github.com/go-xsk/xsk"
)

// Halves are a Port of two Queues on one queue of the interface, one each way. In
// copy mode the kernel sends under a lock of the socket, and takes it also where
// somebody waits for packets, to send what is left: on one socket the receiver spins
// until who sends is through.
type halves struct{ rx, tx *xsk.Queue }

func (h *halves) Receive(frames []xsk.Frame) (int, error)  { return h.rx.Receive(frames) }
func (h *halves) TryAlloc(frames []xsk.Frame) (int, error) { return h.tx.TryAlloc(frames) }
func (h *halves) TrySend(frames []xsk.Frame) (int, error)  { return h.tx.TrySend(frames) }

// Stats are those of both: what was received by one, and sent by the other.
func (h *halves) Stats() xsk.QueueStats {
	s, sent := h.rx.Stats(), h.tx.Stats()
	s.TxPackets, s.TxBytes, s.TxBursts, s.KickStats = sent.TxPackets, sent.TxBytes, sent.TxBursts, sent.KickStats
	return s
}

// Close closes both. The memory is rx's, and can go when tx is closed.
func (h *halves) Close() error { return errors.Join(h.tx.Close(), h.rx.Close()) }

// openPorts opens the interface's queues, in halves where they have memory of their
// own. queues are all that was opened, also with an error.
func openPorts(ifname string, c *xsk.Config) (ports []Port, queues xsk.Queues, err error) {
	s := &c.SocketConfig
	if c.Umem != nil || c.UmemConfig.File != nil || s.RxOnly || s.TxOnly {
		queues, err = xsk.OpenAll(ifname, c)
		for _, q := range queues {
			ports = append(ports, q)
		}
		return ports, queues, err
	}
	receive := *c
	receive.SocketConfig.RxOnly = true
	receiving, err := xsk.OpenAll(ifname, &receive)
	for i, rx := range receiving {
		if err != nil {
			queues = append(queues, rx)
			continue
		}
		number := i
		if len(c.Queues) > 0 {
			number = c.Queues[i]
		}
		send := xsk.Config{Umem: rx.Umem(), SocketConfig: c.SocketConfig}
		send.SocketConfig.TxOnly = true
		var tx *xsk.Queue
		if tx, err = xsk.Open(ifname, number, &send); err == nil {
			ports, queues = append(ports, &halves{rx, tx}), append(queues, tx)
		}
		queues = append(queues, rx)
	}
	return ports, queues, err
}
