package xsk

// NewPlainSocket makes a Socket around ring structs that no kernel shares, for
// benchmarks of the program's side alone. It has no file descriptor; do not
// close it.
func NewPlainSocket(fill, completion, rx, tx uintptr) *Socket {
	s := &Socket{
		Fill:       new(FillRing),
		Completion: new(CompletionRing),
		Rx:         new(RxRing),
		Tx:         new(TxRing),
		name:       "plain memory",
		fd:         -1,
	}
	s.Fill.c, s.Completion.c, s.Rx.c, s.Tx.c = fill, completion, rx, tx
	return s
}
