package xsk

// Balance is an error unless every frame of the Umem has one owner.
func (q *Queue) Balance() error { return q.pool.balance() }

// Strange counts frames that the kernel returned without having them.
func (q *Queue) Strange() uint64 { return q.pool.strange }
