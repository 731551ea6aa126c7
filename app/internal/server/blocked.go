package server

import "time"

// blockedGrace is how long a client may send without reading. A slow network looks the same.
const blockedGrace = 250 * time.Millisecond

// block marks a connection as blocked: the server does not read from it, because the client does
// not read what is written to it. If there are too many, it closes those that were blocked for
// longest.
func (t *connections) block(c *conn) {
	t.mu.Lock()
	var victims []victim
	if !c.gone {
		now := time.Now()
		c.blockedSince = now
		c.blocked = t.blocked.PushBack(c)
		for t.blocked.Len() > t.bounds.blocked {
			oldest := t.blocked.Front().Value.(*conn)
			if now.Sub(oldest.blockedSince) < blockedGrace {
				break
			}
			t.forget(oldest)
			victims = append(victims, victim{oldest, reasonBlocked})
		}
	}
	t.mu.Unlock()
	t.close(victims)
}

// unblock reverses block.
func (t *connections) unblock(c *conn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.unblockLocked(c)
}

func (t *connections) unblockLocked(c *conn) {
	if c.blocked != nil {
		t.blocked.Remove(c.blocked)
		c.blocked = nil
	}
}
