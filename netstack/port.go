package netstack

import "github.com/go-xsk/xsk"

// A Port is where an Endpoint receives and sends: an *xsk.Queue, or anything that
// keeps to the rules of its methods of these names.
//
// Receive lends frames until the next Receive, and is called by one goroutine,
// which waits in it without a deadline. TryAlloc gives empty frames for good;
// TrySend takes frames[:n] and leaves the rest with the caller, who frees them with
// xsk.Free; both are called by many goroutines and do not wait. After Close all
// answer os.ErrClosed, also a Receive that waits; that ends the last loan.
type Port interface {
	Receive(frames []xsk.Frame) (int, error)
	TryAlloc(frames []xsk.Frame) (int, error)
	TrySend(frames []xsk.Frame) (int, error)
	Close() error
}

var _ Port = (*xsk.Queue)(nil)
