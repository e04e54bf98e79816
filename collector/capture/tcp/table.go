package tcp

import (
	"encoding/binary"

	"weir/collector/capture"
	"weir/collector/capture/packet"
	"weir/pipeline"
)

// key names a connection whichever way a segment goes: the lower end first.
type key struct {
	low, high         pipeline.Address
	lowPort, highPort uint16
	vni               uint32
}

func keyOf(s *packet.Segment) key { return makeKey(&s.Src, &s.Dst, s.SrcPort, s.DstPort, s.VNI) }

func makeKey(src, dst *pipeline.Address, srcPort, dstPort uint16, vni uint32) key {
	// Of IPv4 the last half is all there is; any order will do.
	a, b := binary.BigEndian.Uint64(src[8:]), binary.BigEndian.Uint64(dst[8:])
	if a == b {
		a, b = binary.BigEndian.Uint64(src[:8]), binary.BigEndian.Uint64(dst[:8])
	}
	if a < b || a == b && srcPort <= dstPort {
		return key{*src, *dst, srcPort, dstPort, vni}
	}
	return key{*dst, *src, dstPort, srcPort, vni}
}

// listID is which of the lists a connection is in: each goes from the one that was
// silent for longest to the latest.
type listID uint8

const (
	listNone listID = iota
	listHalfOpen
	listActive
	listClosed
	lists
)

type list struct {
	head, tail uint32
	n          int
}

// slab is how many connections are made at a time.
const slab = 256

// table finds connections. They are numbered from 1 and keep their place in memory.
type table struct {
	index map[key]uint32
	slabs []*[slab]Conn
	free  uint32 // chained by next
	used  uint32
	lists [lists]list
	last  uint32 // the one found last: packets of a connection come in runs
	lastK key
}

func newTable() table { return table{index: map[key]uint32{}} }

func (t *table) conn(i uint32) *Conn { return &t.slabs[(i-1)/slab][(i-1)%slab] }

func (t *table) find(k key) *Conn {
	if t.last != 0 && t.lastK == k {
		return t.conn(t.last)
	}
	i := t.index[k]
	if i == 0 {
		return nil
	}
	t.last, t.lastK = i, k
	return t.conn(i)
}

func (t *table) make(k key) *Conn {
	i := t.free
	if i != 0 {
		t.free = t.conn(i).next
	} else {
		t.used++
		i = t.used
		if int(i-1)/slab == len(t.slabs) {
			t.slabs = append(t.slabs, new([slab]Conn))
		}
	}
	c := t.conn(i)
	*c = Conn{self: i}
	t.index[k] = i
	t.last, t.lastK = i, k
	return c
}

func (t *table) drop(c *Conn) {
	k := makeKey(&c.Flow.Client, &c.Flow.Server, c.Flow.ClientPort, c.Flow.ServerPort, c.Flow.VNI)
	delete(t.index, k)
	if t.last == c.self {
		t.last = 0
	}
	t.unlink(c)
	i := c.self
	*c = Conn{self: i, next: t.free}
	t.free = i
}

func (t *table) unlink(c *Conn) {
	if c.list == listNone {
		return
	}
	l := &t.lists[c.list]
	if c.prev != 0 {
		t.conn(c.prev).next = c.next
	} else {
		l.head = c.next
	}
	if c.next != 0 {
		t.conn(c.next).prev = c.prev
	} else {
		l.tail = c.prev
	}
	l.n--
	c.prev, c.next, c.list = 0, 0, listNone
}

// move puts c at the end of a list.
func (t *table) move(c *Conn, id listID) {
	t.unlink(c)
	l := &t.lists[id]
	c.prev, c.list = l.tail, id
	if l.tail != 0 {
		t.conn(l.tail).next = c.self
	} else {
		l.head = c.self
	}
	l.tail = c.self
	l.n++
}

// add makes a connection; nil when there is no room.
func (a *Assembler) add(k key, s *packet.Segment, fromClient bool) *Conn {
	if int(a.table.used) >= a.cfg.Connections && a.table.free == 0 && !a.evict() {
		return nil
	}
	c := a.table.make(k)
	c.Flow = capture.Flow{Client: s.Src, Server: s.Dst, ClientPort: s.SrcPort, ServerPort: s.DstPort, VNI: s.VNI, Start: s.Time}
	if !fromClient {
		f := &c.Flow
		f.Client, f.Server, f.ClientPort, f.ServerPort = f.Server, f.Client, f.ServerPort, f.ClientPort
	}
	c.last = s.Time
	a.table.move(c, listHalfOpen)
	a.Counts.Connections++
	a.Counts.Open++
	return c
}

// evict makes room for a connection: those go first that are over, then those that
// carried nothing, then the one that was silent for longest.
func (a *Assembler) evict() bool {
	for _, id := range [...]listID{listClosed, listHalfOpen, listActive} {
		if i := a.table.lists[id].head; i != 0 {
			c := a.table.conn(i)
			if id != listClosed {
				a.tally.Add(capture.LossConnections, 0)
			}
			a.finish(c, capture.EndLimit)
			a.remove(c)
			return true
		}
	}
	return false
}

// remove forgets a connection that has ended.
func (a *Assembler) remove(c *Conn) {
	a.table.drop(c)
}

// touch notes that c is alive. Its place in the list is moved once a second only.
func (a *Assembler) touch(c *Conn, t pipeline.Time) {
	if t-c.last > 1e6 {
		c.last = t
		a.table.move(c, c.list)
	}
}

// expire ends connections that were silent for too long.
func (a *Assembler) expire() {
	for id, after := range [...]pipeline.Time{listHalfOpen: halfOpenAfter, listActive: idleAfter, listClosed: closedAfter} {
		for n := 0; after > 0 && n < 8; n++ {
			i := a.table.lists[id].head
			if i == 0 {
				break
			}
			c := a.table.conn(i)
			if a.now-c.last <= after {
				break
			}
			a.finish(c, capture.EndIdle)
			a.remove(c)
		}
	}
}
