package xsk

import (
	"time"

	"golang.org/x/sys/unix"
)

// offQueue reports whether the kernel has taken the Socket off its queue, because the
// interface is gone: then it has let go of all frames.
func (s *Socket) offQueue() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.closed && offQueue(s.fd)
}

// offQueue asks with a sendto that may block, which AF_XDP never does: ENXIO off the
// queue, and EOPNOTSUPP or ENETDOWN on it, before it does anything. The kernel takes a
// socket off, and its pool off the driver, with the socket's lock held, so who has had
// the lock since, as for the counters, knows that both are done.
func offQueue(fd int) bool {
	if _, err := unix.SendmsgN(fd, nil, nil, nil, 0); err != unix.ENXIO {
		return false
	}
	_, err := socketStats(fd)
	return err == nil
}

// offQueue reports the same of the socket that u began with, which u keeps open.
func (u *Umem) offQueue() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.c != 0 && u.own.bound && offQueue(u.fd)
}

// goneEvery is how often who lacks frames looks for interfaces that are gone.
const goneEvery = 100 * time.Millisecond

// reclaimGone frees the frames of closed Queues whose interface is gone since, so that
// no later bind can prove that the kernel let go of them. It looks once in a while, and
// reports whether there were any.
//
// The socket of such a Queue is closed, which in copy mode is proof enough: the kernel
// waits for who is at work on its frames then. In zero copy the driver gives them up
// later, and nothing tells. The first socket of the Umem is open still, and is asked.
func (p *pool) reclaimGone() (freed bool) {
	now := time.Now().UnixNano()
	if last := p.lookedGone.Load(); now-last < int64(goneEvery) || !p.lookedGone.CompareAndSwap(last, now) {
		return false
	}
	keys := map[queueKey]bool{}
	p.lockAll()
	if p.sum()[ownerRetired] > 0 {
		for _, s := range p.all()[1:] {
			if copied, seen := keys[s.key]; s.queue == nil {
				keys[s.key] = s.copied && (copied || !seen)
			}
		}
	}
	p.unlockAll()
	for key, copied := range keys {
		gone := false
		switch {
		case p.umem.isFirst(key):
			gone = p.umem.offQueue()
		case copied:
			gone = isGone(key)
		}
		if gone && p.reclaim(key) > 0 {
			freed = true
		}
	}
	if freed {
		p.cameBack(false)
	}
	return freed
}

// isFirst reports whether the first socket of u was bound to the queue.
func (u *Umem) isFirst(key queueKey) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.own.bound && u.own.queueKey == key
}

// isGone reports whether the interface of a queue exists no more, as far as the
// calling thread's network namespace shows.
func isGone(key queueKey) bool {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	if netns(fd) != key.netns {
		return false
	}
	request, err := unix.NewIfreq("")
	if err != nil {
		return false
	}
	request.SetUint32(uint32(key.ifindex))
	return unix.IoctlIfreq(fd, unix.SIOCGIFNAME, request) == unix.ENODEV
}
